//! Sends three orders, of which the server refuses one, and says what became of them.
//!
//! ```sh
//! cargo run -p sluice-client --example orders -- http://127.0.0.1:8080 /tmp/orders-spool
//! ```

use std::io::Write;
use std::time::Duration;

use serde_json::json;
use sluice_client::{Client, Event, Outcome};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, spool] = arguments.as_slice() else { return Err("usage: orders URL SPOOL".into()) };
    let client = Client::builder(url).spool(spool).build().await?;

    let mut deliveries = Vec::new();
    for (event_id, value) in [("order-1", 100), ("", 250), ("order-3", 75)] {
        let event = Event::new("orders", &json!({"value": value}))?.event_id(event_id).source("shop");
        // When `send` returns, the event is on disk. What becomes of it at the server is known later.
        deliveries.push(client.send(event).await?);
    }
    let mut out = std::io::stdout().lock();
    for delivery in deliveries {
        let event_id = delivery.event_id().to_owned();
        match delivery.await {
            Outcome::Delivered => writeln!(out, "{event_id:?}: delivered")?,
            Outcome::Rejected(reason) => writeln!(out, "{event_id:?}: {} in {:?}", reason.code, reason.field)?,
            Outcome::Spooled => writeln!(out, "{event_id:?}: not answered yet, and in the spool")?,
            other => writeln!(out, "{event_id:?}: {other:?}")?,
        }
    }
    client.close(Duration::from_secs(10)).await?;
    let stats = client.stats();
    writeln!(out, "sent {}, delivered {}, rejected {}", stats.sent, stats.delivered, stats.rejected)?;
    Ok(())
}
