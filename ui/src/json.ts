// JSON of payloads, which is shown exactly as it was sent: JSON.parse would round numbers.

/** Returns the index after the string that begins at `from`. */
function endOfString(text: string, from: number): number {
  let at = from + 1;
  while (at < text.length) {
    const c = text[at];
    if (c === '\\') at += 2;
    else if (c === '"') return at + 1;
    else at += 1;
  }
  return at;
}

/** Returns the index after the value that begins at `from`. */
function endOfValue(text: string, from: number): number {
  let at = from;
  let depth = 0;
  while (at < text.length) {
    const c = text[at];
    if (c === '"') {
      at = endOfString(text, at);
      if (depth === 0) return at;
      continue;
    }
    if (c === '{' || c === '[') depth += 1;
    else if (c === '}' || c === ']') {
      if (depth === 0) return at;
      depth -= 1;
      if (depth === 0) return at + 1;
    } else if (depth === 0 && (c === ',' || c === ' ' || c === '\n')) return at;
    at += 1;
  }
  return at;
}

const KEY = '"payload"';

/** Returns the JSON with each value of a key `payload` replaced by a text that has the JSON of the value. */
export function textsOfPayloads(text: string): string {
  const pieces: string[] = [];
  let copied = 0;
  let at = 0;
  for (;;) {
    at = text.indexOf('"', at);
    if (at < 0) break;
    const end = endOfString(text, at);
    let value = end;
    while (text[value] === ' ' || text[value] === '\n') value += 1;
    if (text[value] !== ':' || end - at !== KEY.length || !text.startsWith(KEY, at)) {
      at = end;
      continue;
    }
    value += 1;
    while (text[value] === ' ' || text[value] === '\n') value += 1;
    const after = endOfValue(text, value);
    pieces.push(text.slice(copied, value), JSON.stringify(text.slice(value, after)));
    copied = after;
    at = after;
  }
  pieces.push(text.slice(copied));
  return pieces.join('');
}

/** Returns JSON with line breaks and indentation. Its tokens are unchanged. */
export function indented(json: string): string {
  const out: string[] = [];
  let depth = 0;
  const line = (): void => void out.push('\n', '  '.repeat(depth));
  for (let at = 0; at < json.length; ) {
    const c = json[at] as string;
    if (c === '"') {
      const end = endOfString(json, at);
      out.push(json.slice(at, end));
      at = end;
      continue;
    }
    at += 1;
    if (c === ' ' || c === '\n' || c === '\r' || c === '\t') continue;
    if (c === '{' || c === '[') {
      let next = at;
      while (json[next] !== undefined && ' \n\r\t'.includes(json[next] as string)) next += 1;
      if (json[next] === (c === '{' ? '}' : ']')) {
        out.push(c, json[next] as string);
        at = next + 1;
        continue;
      }
      depth += 1;
      out.push(c);
      line();
    } else if (c === '}' || c === ']') {
      depth -= 1;
      line();
      out.push(c);
    } else if (c === ',') {
      out.push(c);
      line();
    } else if (c === ':') out.push(': ');
    else out.push(c);
  }
  return out.join('');
}
