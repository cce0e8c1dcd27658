//! `events`: stored events, page by page.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Out, write};
use crate::context::Context;
use crate::global::{Form, Output};
use crate::outcome::Outcome;
use crate::programs::{Programs, path};
use crate::table::{row, table};

/// The largest page: it is at most as large as its answer may be.
const MAX_PAGE: u64 = 1_000;

/// Shows stored events, newest arrival first
///
/// Pages are read until --limit events were shown. With -o json each event is a line. New events cannot be followed: the
/// API lists them from the newest to the oldest, and an event can become visible after one that arrived later, so that
/// one that asks again for newer ones would miss some.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource
    pub name: String,
    /// Only events of this topic
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Only the event with this id, of the topic --topic
    #[arg(long, value_name = "ID", requires = "topic", conflicts_with_all = ["source", "since", "until", "cursor"])]
    pub id: Option<String>,
    /// Only events of this source
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// Only events with a timestamp at or after it (RFC 3339)
    #[arg(long, value_name = "TIMESTAMP")]
    pub since: Option<String>,
    /// Only events with a timestamp before it (RFC 3339)
    #[arg(long, value_name = "TIMESTAMP")]
    pub until: Option<String>,
    /// Most events to show
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: u64,
    /// Where to go on: the cursor that the last command printed
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub output: Output,
}

/// A page. Events are kept as they were sent, so that numbers are not rounded.
#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

/// What is shown of an event.
#[derive(Deserialize)]
struct Event {
    topic: String,
    event_id: String,
    source: Option<String>,
    payload: Option<Box<RawValue>>,
    received_at: String,
    #[serde(default)]
    damaged: bool,
}

/// Runs the command.
///
/// # Errors
/// If events cannot be read.
pub async fn run(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let mut programs = Programs::of(context, &args.name).await?;
    if let (Some(topic), Some(id)) = (&args.topic, &args.id) {
        let event: Box<RawValue> = programs.get(&segments(topic, id)).await?;
        show(args, &[event], true, out)?;
        return Ok(Outcome::Done);
    }
    let (mut cursor, mut left, mut is_first) = (args.cursor.clone(), args.limit, true);
    while left > 0 {
        let parameters = [
            ("topic", args.topic.clone()),
            ("source", args.source.clone()),
            ("since", args.since.clone()),
            ("until", args.until.clone()),
            ("limit", Some(left.min(MAX_PAGE).to_string())),
            ("cursor", cursor),
        ];
        let page: Page = programs.get(&path("/events", &parameters)).await?;
        show(args, &page.events, is_first, out)?;
        left = left.saturating_sub(page.events.len() as u64);
        (cursor, is_first) = (page.next_cursor, is_first && page.events.is_empty());
        if cursor.is_none() {
            break;
        }
    }
    if let Some(cursor) = cursor.filter(|_| args.output.form == Form::Text) {
        write(out, &format!("there may be more: --cursor {cursor}\n"))?;
    }
    Ok(Outcome::Done)
}

/// Returns the path of an event.
fn segments(topic: &str, id: &str) -> String {
    let encoded = |text: &str| -> String {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
        text.bytes().fold(String::new(), |mut encoded, byte| {
            // A dot is encoded too: a segment of one or two dots would not reach the server.
            match unreserved(byte) {
                true => encoded.push(char::from(byte)),
                false => drop(write!(encoded, "%{byte:02X}")),
            }
            encoded
        })
    };
    format!("/events/{}/{}", encoded(topic), encoded(id))
}

fn show(args: &Args, events: &[Box<RawValue>], with_heading: bool, out: Out<'_>) -> anyhow::Result<()> {
    if args.output.form == Form::Json {
        return events.iter().try_for_each(|event| write(out, &format!("{event}\n")));
    }
    let mut rows = Vec::new();
    if with_heading && !events.is_empty() {
        rows.push(row(["RECEIVED", "TOPIC", "ID", "SOURCE", "PAYLOAD"]));
    }
    for event in events {
        let Event { topic, event_id, source, payload, received_at, damaged } = serde_json::from_str(event.get())?;
        let payload = if damaged { "(damaged)" } else { payload.as_deref().map_or("", RawValue::get) };
        rows.push(row([&received_at, &topic, &event_id, source.as_deref().unwrap_or("-"), payload]));
    }
    write(out, &table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_ids_of_any_characters_have_a_path() {
        assert_eq!(segments("orders", "evt-1"), "/events/orders/evt-1");
        assert_eq!(segments("a/b", ".."), "/events/a%2Fb/%2E%2E");
        assert_eq!(segments("ä", "?#"), "/events/%C3%A4/%3F%23");
    }
}
