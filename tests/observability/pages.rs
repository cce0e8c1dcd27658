//! The pages that a person on call gets: what Alertmanager sends to a receiver.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sluice_tests::wait_until;

use crate::http;

/// How long a page may take after the fault or the cure. The programs look at some things every ten seconds, and a machine
/// on which several tests run is slow.
const PATIENCE: Duration = Duration::from_secs(150);

/// What was received, in its order.
#[derive(Debug, Clone, Default)]
pub struct Pages(Arc<Mutex<Vec<Value>>>);

impl Pages {
    /// Receives pages. Returns the address for Alertmanager, too.
    pub async fn receive() -> (Self, String) {
        let pages = Self::default();
        let received = pages.clone();
        let address = http::serve(move |body| {
            let page: Value = serde_json::from_str(body).expect("JSON of Alertmanager");
            let mut all = received.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(page["alerts"].as_array().expect("alerts").iter().cloned());
            String::new()
        })
        .await;
        (pages, address)
    }

    /// Returns the last page about an alert whose labels have these values.
    fn last(&self, name: &str, labels: &[(&str, &str)]) -> Option<Value> {
        let is_about = |page: &&Value| {
            page["labels"]["alertname"] == name && labels.iter().all(|(label, value)| page["labels"][label] == *value)
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().find(is_about).cloned()
    }

    /// Waits until the last page about an alert says so: `firing` or `resolved`.
    pub async fn wait(&self, name: &str, labels: &[(&str, &str)], status: &str) -> Value {
        let page = wait_until(&format!("a page says that {name} {labels:?} is {status}"), PATIENCE, || async {
            match self.last(name, labels) {
                Some(page) if page["status"] == status => Ok(page),
                Some(page) => Err(page.to_string()),
                None => Err(format!("no page about it; those about others: {:?}", self.names())),
            }
        })
        .await;
        println!("{}", describe(&page));
        page
    }

    /// Returns the name and the status of every page.
    pub fn names(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|page| format!("{} {}", page["labels"]["alertname"], page["status"])).collect()
    }
}

/// Returns a page as a person reads it.
fn describe(page: &Value) -> String {
    let text = |part: &str, name: &str| page[part][name].as_str().unwrap_or_default().to_owned();
    format!(
        "{} [{}] {}: {}\n    {}\n    {}",
        page["status"].as_str().unwrap_or_default(),
        text("labels", "severity"),
        text("labels", "alertname"),
        text("annotations", "summary"),
        text("annotations", "description"),
        text("annotations", "runbook_url"),
    )
}
