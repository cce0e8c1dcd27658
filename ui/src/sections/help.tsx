import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';
import { HELP } from '../help';
import { Panel } from '../parts';
import type { Route } from '../state';

export function HelpSection({ route }: { route: Route }): JSX.Element {
  const about = route.parameters.get('about');
  useEffect(() => {
    if (about === null) return;
    const entry = document.getElementById(`about-${about}`);
    entry?.scrollIntoView();
    entry?.querySelector<HTMLElement>('h2')?.focus();
  }, [about]);
  return (
    <>
      {HELP.map(({ id, title, means, steps, docs }) => (
        <div class={id === about ? 'entry chosen' : 'entry'} key={id}>
          <Panel title={title} id={`about-${id}`}>
            <p class="lead">{means}</p>
            <ol class="steps">
              {steps.map((step) => (
                <li key={step}>{step}</li>
              ))}
            </ol>
            <p class="muted">
              In the documentation: <code>{docs}</code>
            </p>
          </Panel>
        </div>
      ))}
    </>
  );
}
