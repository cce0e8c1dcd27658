// Writes the page to dist, or to the folder that is given. The same sources give the same bytes on every machine.
import { copyFile, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, 'dist');
await mkdir(out, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: { app: 'src/main.tsx' },
  outdir: out,
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['es2022'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  charset: 'utf8',
  banner: {
    js: '/* Sluice (Apache-2.0), with Preact and uPlot (MIT). Made by make ui of the sources in ui/. */',
    css: '/* Sluice (Apache-2.0), with uPlot (MIT). Made by make ui of the sources in ui/. */',
  },
  logLevel: 'warning',
});
for (const name of ['index.html', 'icon.svg']) await copyFile(join(here, 'src', name), join(out, name));
