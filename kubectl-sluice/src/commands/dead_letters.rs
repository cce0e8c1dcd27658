//! `dead-letters`: what could not be stored: lists, shows, replays and discards it.

use anyhow::bail;
use clap::Subcommand;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Out, write, write_json};
use crate::context::Context;
use crate::global::{Form, Output};
use crate::outcome::Outcome;
use crate::programs::{Programs, path};
use crate::table::{row, table};

/// The most dead letters of an answer, and of a call that replays some.
const MAX_PAGE: u64 = 1_000;

/// Lists, shows, replays and discards dead letters: what could not be stored
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource
    pub name: String,
    /// What to do
    #[command(subcommand)]
    pub action: Option<Action>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub output: Output,
}

/// What is done with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Lists them, newest first (without an action, all)
    List {
        #[command(flatten)]
        #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
        filter: Filter,
        /// Most dead letters to list
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u64,
    },
    /// Shows one with its event and reason, as JSON
    Show {
        /// Its id, from the list
        id: i64,
    },
    /// Stores one, or all that match, and counts its events
    ///
    /// Dead letters that killed their reader are left out of --all unless --code kills_its_reader names them. Exits with 3
    /// if the store refused some again.
    Replay {
        /// Its id, from the list
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<i64>,
        /// All that match
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
        filter: Filter,
        /// Only count what matches, and change nothing
        #[arg(long, requires = "all")]
        dry_run: bool,
    },
    /// Throws one away for good. Its events are counted as discarded
    Discard {
        /// Its id, from the list
        id: i64,
        /// Confirms that it is not needed any more
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// Which dead letters.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Only with this code, such as 23514 or damaged
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
    /// Only those that failed at or after it (RFC 3339)
    #[arg(long, value_name = "TIMESTAMP")]
    pub since: Option<String>,
    /// Only those that failed before it (RFC 3339)
    #[arg(long, value_name = "TIMESTAMP")]
    pub until: Option<String>,
}

/// A page.
#[derive(Deserialize)]
struct Page {
    dead_letters: Vec<Value>,
    next_cursor: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// If the programs refuse.
pub async fn run(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let mut programs = Programs::of(context, &args.name).await?;
    let form = args.output.form;
    match &args.action {
        None => list(&mut programs, &Filter::default(), u64::MAX, form, out).await,
        Some(Action::List { filter, limit }) => list(&mut programs, filter, *limit, form, out).await,
        Some(Action::Show { id }) => show(&mut programs, *id, out).await,
        Some(Action::Replay { id: Some(id), .. }) => {
            let answer: Value = programs.ask(Method::POST, &format!("/dead-letters/{id}/replay")).await?;
            let counts = &answer["replayed"];
            let text = format!(
                "replayed {id}: stored {}, duplicates {}\n",
                counts["unique_processed"], counts["duplicate_dropped"]
            );
            answered(form, &answer, &text, out)
        }
        Some(Action::Replay { filter, dry_run, .. }) => replay_all(&mut programs, filter, *dry_run, form, out).await,
        Some(Action::Discard { id, .. }) => {
            let answer: Value = programs.ask(Method::DELETE, &format!("/dead-letters/{id}")).await?;
            answered(form, &answer, &format!("discarded {id}: {} events\n", answer["discarded"]), out)
        }
    }
}

fn answered(form: Form, answer: &Value, text: &str, out: Out<'_>) -> anyhow::Result<Outcome> {
    match form {
        Form::Json => write_json(out, answer)?,
        Form::Text => write(out, text)?,
    }
    Ok(Outcome::Done)
}

fn query(base: &str, filter: &Filter, limit: u64, cursor: Option<String>, dry_run: bool) -> String {
    let Filter { code, since, until } = filter.clone();
    let dry_run = dry_run.then(|| "true".to_owned());
    let limit = Some(limit.min(MAX_PAGE).to_string());
    let parameters = [
        ("code", code),
        ("since", since),
        ("until", until),
        ("limit", limit),
        ("cursor", cursor),
        ("dry_run", dry_run),
    ];
    path(base, &parameters)
}

/// Lists dead letters a page at a time, so that a long list takes no more memory.
async fn list(
    programs: &mut Programs,
    filter: &Filter,
    limit: u64,
    form: Form,
    out: Out<'_>,
) -> anyhow::Result<Outcome> {
    let (mut cursor, mut left, mut listed) = (None, limit, 0);
    while left > 0 {
        let page: Page = programs.get(&query("/dead-letters", filter, left, cursor, false)).await?;
        let mut rows = Vec::new();
        if listed == 0 && !page.dead_letters.is_empty() {
            rows.push(row(["ID", "FAILED", "CODE", "EVENTS", "TOPIC", "EVENT ID", "REASON"]));
        }
        for letter in &page.dead_letters {
            let text = |name: &str| letter[name].as_str().unwrap_or("-").to_owned();
            let (id, events) = (letter["id"].to_string(), letter["events"].to_string());
            let [failed_at, code, topic, event_id, reason] =
                ["failed_at", "code", "topic", "event_id", "reason"].map(text);
            rows.push(row([&id, &failed_at, &code, &events, &topic, &event_id, &reason]));
        }
        listed += page.dead_letters.len() as u64;
        left = left.saturating_sub(page.dead_letters.len() as u64);
        match form {
            Form::Json => page.dead_letters.iter().try_for_each(|letter| write(out, &format!("{letter}\n")))?,
            Form::Text => write(out, &table(&rows))?,
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if form == Form::Text && listed == 0 {
        write(out, "there are no dead letters\n")?;
    }
    if form == Form::Text && cursor.is_some() {
        write(out, "there are more (--limit)\n")?;
    }
    Ok(Outcome::Done)
}

/// Shows one. The API has no request for a single one, so it is looked for in the list.
async fn show(programs: &mut Programs, id: i64, out: Out<'_>) -> anyhow::Result<Outcome> {
    let mut cursor = None;
    loop {
        let page: Page = programs.get(&query("/dead-letters", &Filter::default(), MAX_PAGE, cursor, false)).await?;
        if let Some(letter) = page.dead_letters.iter().find(|letter| letter["id"].as_i64() == Some(id)) {
            write_json(out, letter)?;
            return Ok(Outcome::Done);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            bail!("there is no dead letter {id}, or not any more");
        }
    }
}

/// Replays in as many calls as needed: one call replays for at most 20 seconds.
async fn replay_all(
    programs: &mut Programs,
    filter: &Filter,
    dry_run: bool,
    form: Form,
    out: Out<'_>,
) -> anyhow::Result<Outcome> {
    const NAMES: [&str; 4] = ["matched", "events", "replayed", "still_refused"];
    let (mut sums, mut cursor) = ([0_u64; 4], None);
    loop {
        let path = query("/dead-letters/replay", filter, MAX_PAGE, cursor, dry_run);
        let answer: Value = programs.ask(Method::POST, &path).await?;
        for (sum, name) in sums.iter_mut().zip(NAMES) {
            *sum += answer[name].as_u64().unwrap_or(0);
        }
        cursor = answer["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    let [matched, events, replayed, refused] = sums;
    let report = json!({
        "dry_run": dry_run, "matched": matched, "events": events, "replayed": replayed, "still_refused": refused
    });
    let text = match dry_run {
        true => format!("{matched} dead letters match, with {events} events; nothing was changed\n"),
        false => format!("{matched} dead letters matched: {replayed} replayed, {refused} still refused\n"),
    };
    answered(form, &report, &text, out)?;
    Ok(if refused > 0 { Outcome::Negative } else { Outcome::Done })
}
