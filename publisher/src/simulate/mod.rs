//! `simulate`: plan → send → verify → report.

mod lines;
mod pace;
mod plan;
mod report;
mod send;
pub mod settings;
mod verify;

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Client;
use sluice_client::Requests;
use sluice_service::client_tls;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use self::lines::Lines;
use self::pace::Pace;
use self::plan::Plan;
use self::report::Report;
use self::send::{ATTEMPT, Due, Sender, Tally};
use self::settings::SimulateSettings;
use self::verify::Verifier;

/// Publishes, prints the report, and fails if a request could not be sent or the verification finds a difference.
///
/// # Errors
/// When a request is refused or not answered in time, a line of the file is no event, or the
/// verification finds a difference.
pub async fn run(settings: SimulateSettings) -> anyhow::Result<()> {
    let tls = settings.https.tls().config().map_err(anyhow::Error::msg)?;
    let client = client_tls::client(tls).connect_timeout(Duration::from_secs(5)).timeout(ATTEMPT);
    let client = client.default_headers(settings.token.headers()?).build()?;
    let report = match &settings.file {
        Some(file) => publish_file(&settings, client, file).await?,
        None => simulate(&settings, client).await?,
    };
    report.print()?;
    if report.verified == Some(false) {
        bail!("what is stored differs from what was sent");
    }
    Ok(())
}

async fn simulate(settings: &SimulateSettings, client: Client) -> anyhow::Result<Report> {
    let seed = settings.seed.unwrap_or_else(rand::random);
    let run_id = settings.run_id.clone().unwrap_or_else(|| Uuid::new_v4().simple().to_string()[..12].to_owned());
    let plan = Plan::new(seed, &run_id, settings.events, settings.duplicate, settings.topics);
    let sender = sender(settings, client.clone(), ProgressBar::new(plan.events() as u64))?;

    let batch = settings.batch as usize;
    let produce = async |due: mpsc::Sender<Due>| {
        let mut paced = Paced::new(settings);
        for from in (0..plan.events()).step_by(batch) {
            let to = plan.events().min(from + batch);
            paced.put(&due, plan.body(from..to), (to - from) as u64).await;
        }
        Ok(())
    };
    let began = Instant::now();
    let tally = run_both(settings, &sender, produce).await?;
    let mut report = Report::new(&tally, plan.unique().into(), began.elapsed());
    report.run_id = Some(run_id);
    report.seed = Some(seed);
    sender.progress.finish_and_clear();

    if settings.verify {
        let deadline = Instant::now() + settings.verify_timeout;
        let verifier = Verifier { client: &client, url: &settings.url, deadline };
        report.differences.extend(verifier.verify(&plan).await?);
        report.verified = Some(report.differences.is_empty());
    }
    Ok(report)
}

async fn publish_file(settings: &SimulateSettings, client: Client, file: &Path) -> anyhow::Result<Report> {
    let mut lines = Lines::open(file).await?;
    let sender = sender(settings, client, ProgressBar::new_spinner())?;
    let produce = async |due: mpsc::Sender<Due>| {
        let mut paced = Paced::new(settings);
        while let Some((body, events)) = lines.body(settings.batch as usize).await? {
            paced.put(&due, body, events).await;
        }
        Ok(())
    };
    let began = Instant::now();
    let tally = run_both(settings, &sender, produce).await?;
    sender.progress.finish_and_clear();
    Ok(Report::new(&tally, lines.unique(), began.elapsed()))
}

/// Creates requests and sends them at the same time. Requests created before an invalid line are sent; if
/// sending fails, no further requests are created.
async fn run_both(
    settings: &SimulateSettings,
    sender: &Sender,
    produce: impl AsyncFnOnce(mpsc::Sender<Due>) -> anyhow::Result<()>,
) -> anyhow::Result<Tally> {
    let concurrency = usize::from(settings.concurrency);
    let (due, queue) = mpsc::channel(concurrency);
    let making = async { Ok(produce(due).await) };
    let (made, tally) = tokio::try_join!(making, sender.send_all(queue, concurrency))?;
    made?;
    Ok(tally)
}

/// Passes requests to the senders when they are due.
struct Paced {
    pace: Pace,
    began: Instant,
    before: u64,
}

impl Paced {
    fn new(settings: &SimulateSettings) -> Self {
        let pace = Pace { rate: settings.rate, burst: settings.burst };
        Self { pace, began: Instant::now(), before: 0 }
    }

    async fn put(&mut self, due: &mpsc::Sender<Due>, body: String, events: u64) {
        sleep_until(self.began + self.pace.due(self.before)).await;
        self.before += events;
        // Fails only if sending has failed, which ends the creation of requests too.
        let _ = due.send(Due { body: Bytes::from(body), events }).await;
    }
}

fn sender(settings: &SimulateSettings, client: Client, progress: ProgressBar) -> anyhow::Result<Sender> {
    let template = "{elapsed_precise} {wide_bar} {human_pos}/{human_len} events, {per_sec} {msg}";
    if let Ok(style) = ProgressStyle::with_template(template)
        && progress.length().is_some()
    {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(200));
    let (requests, tls) = (Requests::new(client, &settings.url)?, settings.https.tls());
    Ok(Sender { requests, tls, deadline: Instant::now() + settings.send_timeout, progress })
}
