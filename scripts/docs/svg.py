"""usage: svg.py RECORDING | svg.py --check

Draws docs/images/session.svg, the session of README.md in a terminal, from what sessions.py has recorded, and the badges of README.md
from Cargo.toml. With --check it compares the badges, and the commands of the picture with those of README.md.
"""

import html
import json
import re
import sys
import tomllib
from pathlib import Path

from page import blocks, commands

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs/images"
COLUMNS, CHARACTER, LINE, MARGIN, BAR = 104, 7.8, 19, 16, 30
# GitHub shows a picture of more than this with a delay.
LARGEST = 60_000
# A reader sees one command after the other.
SECONDS = 1.2

STYLE = """
:root { --ground: #ffffff; --edge: #d0d7de; --text: #1f2328; --prompt: #1a7f37; --answer: #57606a; --bar: #f6f8fa }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1117; --edge: #30363d; --text: #e6edf3; --prompt: #3fb950; --answer: #9da7b1; --bar: #161b22 }
}
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre; fill: var(--text) }
.prompt { fill: var(--prompt) } .answer { fill: var(--answer) }
g { animation: appear .3s both } @keyframes appear { from { opacity: 0 } }
@media (prefers-reduced-motion: reduce) { g { animation: none } }
"""


def wrapped(text: str) -> list[str]:
    """Returns lines as a terminal wraps them, but at a space or a comma where there is one."""
    lines = []
    for line in text.rstrip("\n").split("\n"):
        while len(line) > COLUMNS:
            end = max(line.rfind(",", 0, COLUMNS), line.rfind(" ", 0, COLUMNS)) + 1
            end = end if end > COLUMNS // 2 else COLUMNS
            lines.append(line[:end])
            line = "  " + line[end:].lstrip()
        lines.append(line)
    return lines


def session(recorded: list[tuple[str, str]]) -> str:
    groups, row = [], 0
    for number, (command, printed) in enumerate(recorded):
        rows = []
        for kind, lines in (("command", wrapped(command)), ("answer", wrapped(printed))):
            for first, line in enumerate(lines):
                y = BAR + MARGIN + LINE * row + 8
                prompt = '<tspan class="prompt">$ </tspan>' if kind == "command" and first == 0 else ""
                rows.append(f'<text class="{kind}" x="{MARGIN}" y="{y:.0f}">{prompt}{html.escape(line, quote=False)}</text>')
                row += 1
        row += 0.4
        groups.append(f'<g style="animation-delay:{number * SECONDS:.1f}s">' + "\n".join(rows) + "</g>")
    width, height = round(COLUMNS * CHARACTER + 2 * MARGIN), round(BAR + 2 * MARGIN + LINE * row)
    body = "\n".join(groups)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="A session of Sluice in a terminal">
<style>{STYLE}</style>
<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="var(--ground)" stroke="var(--edge)"/>
<path d="M.5 {BAR}v-{BAR - 8}a8 8 0 0 1 8-8h{width - 17}a8 8 0 0 1 8 8v{BAR - 8}z" fill="var(--bar)" stroke="var(--edge)"/>
<text x="{MARGIN}" y="20" class="answer">make run, and in another terminal:</text>
{body}
</svg>
"""


def badge(label: str, value: str) -> str:
    left, right = (round(len(text) * 6.6 + 14) for text in (label, value))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{label}: {value}">
<rect width="{left + right}" height="20" rx="3" fill="#1f5f99"/><path d="M3 0h{left - 3}v20h-{left - 3}a3 3 0 0 1-3-3v-14a3 3 0 0 1 3-3" fill="#444c56"/>
<g fill="#fff" font-family="Verdana, 'DejaVu Sans', sans-serif" font-size="11" text-anchor="middle"><text x="{left / 2:.1f}" y="14">{label}</text><text x="{left + right / 2:.1f}" y="14">{value}</text></g>
</svg>
"""


def badges() -> dict[str, str]:
    """Returns the badges by the names of their files. What they say is checked: by cargo, and by the licences that lint allows."""
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    return {
        "licence.svg": badge("licence", package["license"].replace("-", " ")),
        "rust.svg": badge("Rust", f"{package['rust-version']} or newer"),
    }


def shown_commands() -> list[str]:
    return [text for block in blocks(ROOT / "README.md") if block.language == "console" for text, _ in commands(block)]


def check() -> list[str]:
    wrong = [f"docs/images/{name} is not what Cargo.toml says" for name, text in badges().items() if (IMAGES / name).read_text() != text]
    picture = (IMAGES / "session.svg").read_text()
    lines = re.findall(r'class="command"[^>]*>(?:<tspan.*?</tspan>)?(.*?)</text>', picture)
    drawn = re.sub(r"\s", "", "".join(map(html.unescape, lines)))
    if drawn != re.sub(r"\s", "", "".join(shown_commands())):
        wrong.append("docs/images/session.svg has other commands than README.md")
    if len(picture.encode()) > LARGEST:
        wrong.append(f"docs/images/session.svg is larger than {LARGEST} bytes")
    return wrong


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        wrong = check()
        print("\n".join([*wrong, "make readme-svg draws them again"] if wrong else []), file=sys.stderr, end="")
        return int(bool(wrong))
    (IMAGES / "session.svg").write_text(session(json.loads(Path(sys.argv[1]).read_text())))
    for name, text in badges().items():
        (IMAGES / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
