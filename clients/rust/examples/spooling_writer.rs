//! Sends numbered events through a spool until it is killed, and writes the id of each event to standard output as soon as
//! it is confirmed. The test that kills clients and servers runs it.
//!
//! ```sh
//! cargo run -p sluice-client --example spooling_writer -- http://127.0.0.1:8080 /tmp/spool run-1
//! ```
//!
//! With a fourth argument, a number of seconds, it sends no events of its own, and waits until the server has all that the
//! spool holds.

use std::io::Write;
use std::time::Duration;

use serde_json::json;
use sluice_client::{Client, Event};

/// As many as are sent at the same time.
const SENDERS: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, spool, prefix, seconds) = match arguments.as_slice() {
        [url, spool, prefix] => (url, spool, prefix, None),
        [url, spool, prefix, seconds] => (url, spool, prefix, Some(seconds.parse()?)),
        _ => return Err("usage: spooling_writer URL SPOOL PREFIX [SECONDS]".into()),
    };
    let builder = Client::builder(url).spool(spool).linger(Duration::from_millis(2)).batch_events(20);
    let client = builder.backoff(Duration::from_millis(10), Duration::from_millis(500)).build().await?;
    if let Some(seconds) = seconds {
        client.close(Duration::from_secs(seconds)).await?;
        return Ok(());
    }
    let senders = (0..SENDERS).map(|sender| {
        let (client, prefix) = (client.clone(), prefix.clone());
        tokio::spawn(async move { send_all(&client, &format!("{prefix}-{sender}")).await.map_err(|e| e.to_string()) })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await??;
    }
    Ok(())
}

async fn send_all(client: &Client, prefix: &str) -> Result<(), Box<dyn std::error::Error>> {
    for number in 0_u64.. {
        let event = Event::new("killed", &json!({"number": number}))?.event_id(format!("{prefix}-{number}"));
        let delivery = client.send(event).await?;
        // One write for each line: a process that is killed leaves no half of one.
        std::io::stdout().write_all(format!("{}\n", delivery.event_id()).as_bytes())?;
    }
    Ok(())
}
