//! Lines of JSON, collected into the bodies of requests.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};

/// The size in bytes at which a body is complete, however few events it has.
const BODY_BYTES: usize = 1 << 20;
/// The maximum length of a line in bytes. The publisher takes no payload of more than 1 MiB by default.
const LINE_BYTES: usize = 8 << 20;

/// Reads events line by line; blank lines are skipped.
pub(super) struct Lines {
    input: Box<dyn AsyncBufRead + Send + Unpin>,
    name: String,
    number: u64,
    /// A line that did not fit into the previous body, with its number.
    over: Option<(u64, String)>,
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct Batch {
    pub body: String,
    /// The number of the line of each event. They are in order, but blank lines are left out.
    pub lines: Vec<u64>,
    name: String,
}

impl Lines {
    /// Opens a file, or standard input for `-`.
    pub(super) async fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        if name == "-" {
            return Ok(Self::new("standard input", Box::new(BufReader::new(tokio::io::stdin()))));
        }
        let file = tokio::fs::File::open(path).await.with_context(|| format!("cannot open {name}"))?;
        Ok(Self::new(&name, Box::new(BufReader::new(file))))
    }

    /// Returns this event as the only line.
    pub(super) fn of(event: String) -> Self {
        Self::new("the event", Box::new(std::io::Cursor::new(event)))
    }

    fn new(name: &str, input: Box<dyn AsyncBufRead + Send + Unpin>) -> Self {
        Self { input, name: name.to_owned(), number: 0, over: None }
    }

    /// Returns the next request with up to `max` events; `None` at the end. The same input gives the same requests.
    pub(super) async fn next(&mut self, max: u32) -> anyhow::Result<Option<Batch>> {
        let mut batch = Batch { body: "[".to_owned(), lines: Vec::new(), name: self.name.clone() };
        while batch.lines.len() < max as usize {
            let next = match self.over.take() {
                Some(line) => Some(line),
                None => self.line().await?,
            };
            let Some((number, line)) = next else { break };
            if !batch.lines.is_empty() && batch.body.len() + line.len() > BODY_BYTES {
                self.over = Some((number, line));
                break;
            }
            if !batch.lines.is_empty() {
                batch.body.push(',');
            }
            batch.body.push_str(&line);
            batch.lines.push(number);
        }
        batch.body.push(']');
        Ok(Some(batch).filter(|batch| !batch.lines.is_empty()))
    }

    async fn line(&mut self) -> anyhow::Result<Option<(u64, String)>> {
        loop {
            let mut line = Vec::new();
            let mut input = (&mut self.input).take(LINE_BYTES as u64 + 1);
            let read =
                input.read_until(b'\n', &mut line).await.with_context(|| format!("cannot read {}", self.name))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            let place = format!("{}, line {}", self.name, self.number);
            ensure!(line.len() <= LINE_BYTES, "{place} is longer than {LINE_BYTES} bytes");
            let Ok(line) = String::from_utf8(line) else { bail!("{place} is not UTF-8") };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            // What is an event, the publisher decides. But a line must not become two, or a part of one.
            let is_object = line.starts_with('{') && serde_json::from_str::<&RawValue>(line).is_ok();
            ensure!(is_object, "{place} is not an object in JSON");
            return Ok(Some((self.number, line.to_owned())));
        }
    }
}

impl Batch {
    /// Returns which lines it has, in words.
    pub(super) fn place(&self) -> String {
        match self.lines.as_slice() {
            [only] => format!("line {only} of {}", self.name),
            [first, .., last] => format!("a request with lines {first} to {last} of {}", self.name),
            [] => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Lines {
        Lines::new("input", Box::new(std::io::Cursor::new(text.to_owned())))
    }

    #[tokio::test]
    async fn events_are_packed_by_number_and_blank_lines_are_left_out() {
        let mut lines = lines("{\"a\":1}\n\n {\"a\":2}\r\n{\"a\":3}");
        let first = lines.next(2).await.unwrap().unwrap();
        assert_eq!((first.body.as_str(), first.lines.as_slice()), ("[{\"a\":1},{\"a\":2}]", [1, 3].as_slice()));
        assert_eq!(first.place(), "a request with lines 1 to 3 of input");
        let second = lines.next(2).await.unwrap().unwrap();
        assert_eq!((second.body.as_str(), second.place().as_str()), ("[{\"a\":3}]", "line 4 of input"));
        assert!(lines.next(2).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_body_ends_before_it_is_larger_than_a_mebibyte() {
        let event = format!("{{\"payload\":\"{}\"}}", "x".repeat(400 << 10));
        let mut lines = lines(&vec![event; 5].join("\n"));
        let mut sizes = Vec::new();
        while let Some(batch) = lines.next(100).await.unwrap() {
            assert!(batch.body.len() <= BODY_BYTES + 2);
            sizes.push(batch.lines);
        }
        assert_eq!(sizes, [vec![1, 2], vec![3, 4], vec![5]]);
    }

    #[tokio::test]
    async fn a_line_that_is_not_one_object_is_named() {
        for (text, expected) in [
            ("{}\n{\"a\":1},{\"b\":2}", "input, line 2 is not an object in JSON"),
            ("[1]", "input, line 1 is not an object in JSON"),
            ("{\"a\":", "input, line 1 is not an object in JSON"),
        ] {
            let error = lines(text).next(10).await.unwrap_err().to_string();
            assert_eq!(error, expected, "{text}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(LINE_BYTES));
        let error = lines(&long).next(10).await.unwrap_err().to_string();
        assert!(error.contains("line 1 is longer than"), "{error}");
    }
}
