//! Measures the latency of queries while nothing else happens: the requests that a dashboard sends.

use std::time::Instant;

use anyhow::ensure;

use crate::load::events::TOPICS;
use crate::load::http::Connection;
use crate::report::figures::{Figures, Group, Spread};

/// How often each query is sent.
const TIMES: usize = 50;

/// Adds the median and the largest latency of each query.
pub async fn measure(figures: &mut Figures, address: &str) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    let topic = format!("/events?topic={}", TOPICS[0]);
    for (name, path) in
        [("/events", "/events"), ("/events of a topic", &topic), ("/stats", "/stats"), ("/topics", "/topics")]
    {
        let mut times = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            let started = Instant::now();
            let response = connection.get(path).await?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
            ensure!(response.status == 200, "{path} answered {}", response.status);
        }
        if let Some(times) = Spread::of(times) {
            figures.add(Group::Query, name, times.median);
            figures.add(Group::Query, format!("{name}, slowest of {TIMES}"), times.max);
        }
    }
    Ok(())
}
