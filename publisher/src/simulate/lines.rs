//! The events of an NDJSON file, collected into request bodies.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, bail};
use sluice_event::EventKey;
use sluice_event::{Keyer, Limits, Timestamp};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};

/// The size in bytes at which a body is complete, whatever the batch size.
const BODY_BYTES: usize = 1 << 20;
/// The maximum length of a line in bytes: a longer one cannot be one event.
const LINE_BYTES: u64 = 4 << 20;

/// Reads events line by line; blank lines are skipped.
pub(crate) struct Lines {
    input: Box<dyn AsyncBufRead + Send + Unpin>,
    name: String,
    number: u64,
    keyer: Keyer,
    seen: HashSet<EventKey>,
    /// A line that did not fit into the previous body.
    over: Option<String>,
}

impl Lines {
    /// Opens a file, or standard input for `-`.
    pub(crate) async fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        if name == "-" {
            return Ok(Self::new("standard input".to_owned(), Box::new(BufReader::new(tokio::io::stdin()))));
        }
        let file = tokio::fs::File::open(path).await.with_context(|| format!("cannot open {name}"))?;
        Ok(Self::new(name, Box::new(BufReader::new(file))))
    }

    fn new(name: String, input: Box<dyn AsyncBufRead + Send + Unpin>) -> Self {
        Self { input, name, number: 0, keyer: Keyer::default(), seen: HashSet::new(), over: None }
    }

    /// Returns the number of different events (topic and id) read so far.
    pub(crate) fn unique(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Returns the next request's body with up to `batch` events, and their number; `None` at the end.
    pub(crate) async fn body(&mut self, batch: usize) -> anyhow::Result<Option<(String, u64)>> {
        let mut body = String::new();
        let mut events = 0;
        while events < batch {
            let next = match self.over.take() {
                Some(line) => Some(line),
                None => self.line().await?,
            };
            let Some(line) = next else { break };
            if events > 0 && body.len() + line.len() > BODY_BYTES {
                self.over = Some(line);
                break;
            }
            body.push(if events == 0 { '[' } else { ',' });
            body.push_str(&line);
            events += 1;
        }
        if events == 0 {
            return Ok(None);
        }
        body.push(']');
        Ok(Some((body, events as u64)))
    }

    /// Returns the next line that is not blank, after validation.
    async fn line(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            let mut bytes = Vec::new();
            let mut bounded = (&mut self.input).take(LINE_BYTES);
            let read = bounded.read_until(b'\n', &mut bytes).await.with_context(|| format!("reading {}", self.name))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            let place = format!("{}, line {}", self.name, self.number);
            if read as u64 == LINE_BYTES {
                bail!("{place}: is longer than {LINE_BYTES} bytes");
            }
            let text = String::from_utf8(bytes).with_context(|| format!("{place}: is not UTF-8"))?;
            let text = text.trim().trim_start_matches('\u{feff}');
            if text.is_empty() {
                continue;
            }
            self.check(text).with_context(|| place)?;
            return Ok(Some(text.to_owned()));
        }
    }

    fn check(&mut self, line: &str) -> anyhow::Result<()> {
        // In brackets, so that a line with several events is refused: a line is one event.
        let body = format!("[{line}]");
        let events =
            sluice_event::parse(body.as_bytes(), &Limits::default(), Timestamp::now()).map_err(|error| match error
                .field
            {
                Some(field) => anyhow::anyhow!("{field}: {}", error.message),
                None => anyhow::anyhow!("{}", error.message),
            })?;
        let [event] = events.as_slice() else { bail!("must be one event, a JSON object") };
        self.seen.insert(self.keyer.key(event));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bodies(text: &'static str, batch: usize) -> anyhow::Result<Vec<(String, u64)>> {
        let mut lines = Lines::new("events.ndjson".into(), Box::new(text.as_bytes()));
        let mut bodies = Vec::new();
        while let Some(body) = lines.body(batch).await? {
            bodies.push(body);
        }
        Ok(bodies)
    }

    #[tokio::test]
    async fn lines_become_batches_and_blank_lines_are_skipped() {
        let text = "{\"id\":\"1\",\"payload\":1}\n\n  {\"id\":\"2\",\"payload\":2}\r\n{\"id\":\"3\",\"payload\":3.50}";
        let bodies = bodies(text, 2).await.unwrap();
        assert_eq!(
            bodies,
            [
                ("[{\"id\":\"1\",\"payload\":1},{\"id\":\"2\",\"payload\":2}]".to_owned(), 2),
                ("[{\"id\":\"3\",\"payload\":3.50}]".to_owned(), 1),
            ]
        );
    }

    #[tokio::test]
    async fn a_line_that_is_no_event_is_named() {
        for (text, expected) in [
            ("{\"id\":\"1\",\"payload\":1}\nnonsense\n", "line 2"),
            ("{\"id\":\" \",\"payload\":1}\n", "line 1: id: must not be blank"),
            ("[{\"id\":\"1\",\"payload\":1}]\n", "line 1"),
            ("{\"id\":\"1\",\"payload\":1},{\"id\":\"2\",\"payload\":1}\n", "one event"),
            ("{\"events\":[{\"id\":\"1\",\"payload\":1}]}\n", "line 1"),
        ] {
            let error = format!("{:#}", bodies(text, 10).await.unwrap_err());
            assert!(error.starts_with("events.ndjson, line ") && error.contains(expected), "{text}: {error}");
        }
    }
}
