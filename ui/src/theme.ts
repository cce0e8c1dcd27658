// The theme: that of the system, unless the user has chosen one.
import { useEffect, useState } from 'preact/hooks';

export type Theme = 'auto' | 'light' | 'dark';
const KEY = 'sluice.theme';

const stored = (): Theme => {
  const theme = localStorage.getItem(KEY);
  return theme === 'light' || theme === 'dark' ? theme : 'auto';
};

function apply(theme: Theme): void {
  if (theme === 'auto') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = theme;
  // Charts are drawn with the colours of the theme.
  dispatchEvent(new Event('themechange'));
}

export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState<Theme>(stored);
  useEffect(() => {
    const system = matchMedia('(prefers-color-scheme: dark)');
    const changed = (): boolean => dispatchEvent(new Event('themechange'));
    system.addEventListener('change', changed);
    return () => system.removeEventListener('change', changed);
  }, []);
  return [
    theme,
    (theme) => {
      if (theme === 'auto') localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
      apply(theme);
      setTheme(theme);
    },
  ];
}

apply(stored());
