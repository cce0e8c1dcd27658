//! The text of a stream of server-sent events.

use axum::body::Bytes;
use serde_json::json;
use sluice_service::problem::Problem;
use sluice_store::feed::{Cursor, FeedPage, Start};

use super::event::Event;

/// After how many milliseconds a client comes back.
const RETRY_MILLIS: u32 = 1_000;

/// What is sent at once.
#[derive(Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    /// Returns what a stream begins with.
    pub fn beginning() -> Self {
        Self(format!("retry: {RETRY_MILLIS}\n\n").into_bytes())
    }

    /// Returns a comment, with the place that was reached: with filters it may be far beyond the last event.
    pub fn heartbeat(reached: Start) -> Self {
        let mut frames = Self(b": \n".to_vec());
        if let Start::After(cursor) = reached {
            frames.place(cursor);
        }
        frames.0.push(b'\n');
        frames
    }

    /// Returns the event that says why a stream ends.
    pub fn problem(problem: &Problem) -> Self {
        let mut frames = Self::default();
        frames.0.extend_from_slice(b"event: problem\n");
        frames.data(json!({"code": problem.code().as_str()}).to_string().as_bytes());
        frames
    }

    /// Returns whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }

    /// Adds the id of an event. Without data, a client takes it as the id of the last event, and reports no event.
    fn place(&mut self, cursor: Cursor) {
        self.0.extend_from_slice(format!("id: {cursor}\n").as_bytes());
    }

    /// Adds the data of an event, and ends it. A line of JSON may only end between two of its tokens.
    fn data(&mut self, json: &[u8]) {
        self.0.extend_from_slice(b"data: ");
        self.0.extend(json.iter().map(|&byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }));
        self.0.extend_from_slice(b"\n\n");
    }
}

/// Returns the events of a page. `is_first` is true of the first page of a stream that did not begin at a cursor: the client
/// learns where it has begun, so that it can come back before the first event.
pub(super) fn page(page: FeedPage, is_first: bool) -> Frames {
    let FeedPage { events, generation, next, repeated_from, .. } = page;
    let mut frames = Frames::default();
    if let Some(from) = repeated_from {
        frames.0.extend_from_slice(b"event: generation\n");
        frames.place(from);
        let text = json!({"generation": generation.to_string(), "repeated_from": from.to_string()}).to_string();
        frames.data(text.as_bytes());
    }
    if events.is_empty() && is_first {
        frames.place(next);
        frames.0.push(b'\n');
    }
    for event in events {
        frames.place(Cursor { generation, seq: event.seq });
        match serde_json::to_vec(&Event::from(event)) {
            Ok(json) => frames.data(&json),
            Err(error) => tracing::error!(%error, "an event cannot be written"),
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use sluice_event::{RequestId, Timestamp};
    use sluice_store::StoredEvent;
    use sluice_store::feed::Generation;

    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_its_payload_is() {
        let event = StoredEvent {
            seq: 5,
            topic: "t".into(),
            event_id: "1\n2".into(),
            timestamp: Timestamp::now(),
            source: None,
            payload: "{\"a\":\r\n[1,\n2]}".into(),
            received_at: Timestamp::now(),
            request_id: RequestId::random(),
            damaged: false,
            erased: false,
        };
        let cursor = |seq| Cursor { generation: Generation(1), seq };
        let from = Some(cursor(4));
        let next = cursor(5);
        let whole = FeedPage { events: vec![event], generation: Generation(1), next, more: false, repeated_from: from };
        let text = String::from_utf8(page(whole, false).0).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "event: generation");
        assert_eq!(lines[1], format!("id: {}", cursor(4)));
        assert!(lines[2].starts_with("data: {") && lines[3].is_empty(), "{text}");
        assert_eq!(lines[4], format!("id: {next}"));
        let event: serde_json::Value = serde_json::from_str(lines[5].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&event["event_id"], &event["payload"]), (&json!("1\n2"), &json!({"a": [1, 2]})));
        assert_eq!(lines.len(), 7, "{text}");
    }
}
