//! A client of server-sent events, which comes back by the id of the last event.

use std::time::Duration;

use serde_json::Value;

use crate::Client;

/// An event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamEvent {
    /// What it is: `message` if the stream does not say it.
    pub kind: String,
    /// The last id that came.
    pub id: Option<String>,
    /// Its data.
    pub data: Value,
}

/// A stream that is open.
pub struct EventStream {
    response: reqwest::Response,
    text: Vec<u8>,
    last_id: Option<String>,
}

impl EventStream {
    /// Opens a stream, which goes on after this id. An error if it is refused or nothing answers.
    pub async fn open(client: &Client, path: &str, last_id: Option<&str>) -> Result<Self, String> {
        let mut request = client.request("GET", path);
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.map_err(|error| error.to_string())?;
        if response.status() != 200 {
            return Err(format!("{} {}", response.status(), response.text().await.unwrap_or_default()));
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Ok(Self { response, text: Vec::new(), last_id: last_id.map(str::to_owned) })
    }

    /// The id by which a client comes back.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Returns the next event; `None` at the end of the stream. An error if it was cut off, or if nothing came in time.
    pub async fn next(&mut self, within: Duration) -> Result<Option<StreamEvent>, String> {
        let next = async {
            loop {
                while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                    let block: Vec<u8> = self.text.drain(..end + 2).collect();
                    if let Some(event) = self.read(std::str::from_utf8(&block).expect("UTF-8")) {
                        return Ok(Some(event));
                    }
                }
                match self.response.chunk().await {
                    Ok(Some(bytes)) => self.text.extend_from_slice(&bytes),
                    Ok(None) => return Ok(None),
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        tokio::time::timeout(within, next).await.unwrap_or_else(|_| Err("nothing came in time".into()))
    }

    /// Reads a block as the specification of server-sent events says. One without data is no event.
    fn read(&mut self, block: &str) -> Option<StreamEvent> {
        let (mut kind, mut data) = ("message".to_owned(), None);
        for line in block.lines() {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("id", id) => self.last_id = Some(id.to_owned()),
                ("event", name) => name.clone_into(&mut kind),
                ("data", text) => data = Some(text.to_owned()),
                _ => {}
            }
        }
        let data = serde_json::from_str(&data?).expect("JSON");
        Some(StreamEvent { kind, id: self.last_id.clone(), data })
    }
}
