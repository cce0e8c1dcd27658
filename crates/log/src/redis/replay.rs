//! The marks of commits, and the replay of entries that a store has lost ([`crate::replay`]).

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use super::connect::Link;
use super::error::{Fault, unexpected};
use super::keys::{self, GROUP, Prefix, StreamKeys};
use super::reply;
use super::script::Script;
use crate::replay::{LogMarks, Loss, Marks, PendingReplay, StreamReplay};
use crate::{Delivered, LogError, Position};

static MARKS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("marks.lua")));
static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("begin_replay.lua")));
static SAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("save_replay.lua")));
static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("end_replay.lua")));
static LEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lease.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("forget_marks.lua")));

/// How long the last loss is shown.
const LOSS_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Before the name of a worker, in the fields of a pending replay.
const MARK: &str = "mark:";

type Fields = BTreeMap<String, String>;
type Answer = (BTreeMap<String, String>, Fields, Option<String>, u64);

/// Returns what all streams remember, and the last loss.
pub(super) async fn marks(link: &Link, prefix: &Prefix, streams: &[StreamKeys]) -> Result<LogMarks, Fault> {
    let mut all = LogMarks::default();
    let mut replays = Vec::new();
    let mut samples = Vec::new();
    for keys in streams {
        let call = MARKS.call(&[&keys.marks, &keys.replay, &keys.window]);
        let (marks, replay, sample, now): Answer = MARKS.run(link, &call).await?;
        for (worker, mark) in marks {
            let parts = mark.split_once(' ').and_then(|(number, at)| Some((number.parse().ok()?, at.parse().ok()?)));
            let (number, at): (u64, u64) = parts.ok_or_else(|| unexpected("a mark"))?;
            let latest = all.acknowledged_at.entry(worker.clone()).or_default();
            *latest = at.max(*latest);
            let highest = all.marks.entry(worker).or_default();
            *highest = number.max(*highest);
        }
        if !replay.is_empty() {
            replays.push((keys.number, replay));
        }
        samples.push(sample.as_deref().and_then(|sample| sample.split(' ').next()?.parse().ok()));
        all.now = now;
    }
    // A stream of which it is not known since when it is complete makes it unknown of all.
    all.covered_since = samples.into_iter().collect::<Option<Vec<u64>>>().and_then(|times| times.into_iter().max());
    all.replay = pending(&replays)?;
    let loss: Fields = link.query(redis::cmd("HGETALL").arg(keys::loss(prefix))).await?;
    all.loss = (!loss.is_empty()).then(|| Loss {
        detected: number(&loss, "detected").unwrap_or_default(),
        survived: number(&loss, "survived"),
        covered_since: number(&loss, "covered"),
    });
    Ok(all)
}

fn number(fields: &Fields, name: &str) -> Option<u64> {
    fields.get(name)?.parse().ok()
}

fn pending(replays: &[(u16, Fields)]) -> Result<Option<PendingReplay>, LogError> {
    let mut streams = Vec::new();
    let mut marks: Option<Marks> = None;
    for (stream, fields) in replays {
        let required = |name| number(fields, name).ok_or_else(|| unexpected("a pending replay"));
        let position = |name: &str| {
            let id = fields.get(name).ok_or_else(|| unexpected("a pending replay"))?;
            reply::position(id, *stream)
        };
        streams.push(StreamReplay {
            id: required("id")?,
            until: position("until")?,
            reached: position("reached")?,
            number: required("number")?,
        });
        let own = fields.iter().filter_map(|(name, mark)| Some((name.strip_prefix(MARK)?, mark.parse::<u64>().ok()?)));
        let own: Marks = own.map(|(worker, mark)| (worker.to_owned(), mark)).collect();
        // Two replicas may have begun parts of it, each with marks that hold for its own parts: the lower ones hold
        // for all.
        marks = Some(match marks {
            None => own,
            Some(marks) => marks.into_iter().filter_map(|(w, m)| Some((m.min(*own.get(&w)?), w))).map(swap).collect(),
        });
    }
    let Some(marks) = marks else { return Ok(None) };
    let of_all = |name| replays.iter().map(move |(_, fields)| number(fields, name));
    let loss = Loss {
        detected: of_all("id").flatten().min().unwrap_or_default(),
        survived: of_all("survived").min().flatten(),
        covered_since: of_all("covered").collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().max()),
    };
    Ok(Some(PendingReplay { loss, streams, marks }))
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// Begins a replay of each stream that has none; returns whether no stream had one.
pub(super) async fn begin(
    link: &Link,
    streams: &[StreamKeys],
    marks: &Marks,
    survived: Option<u64>,
) -> Result<bool, Fault> {
    let mut all = true;
    for keys in streams {
        let mut call = BEGIN.call(&[&keys.stream, &keys.replay, &keys.window]);
        call.arg(GROUP).arg(survived.map_or_else(String::new, |millis| millis.to_string()));
        for (worker, number) in marks {
            call.arg(worker).arg(number);
        }
        all &= BEGIN.run::<bool>(link, &call).await?;
    }
    Ok(all)
}

/// Takes the right to replay, or extends it; gives it back when the time is zero.
pub(super) async fn lease(link: &Link, prefix: &Prefix, owner: &str, ttl: Duration) -> Result<bool, Fault> {
    let mut call = LEASE.call(&[keys::replayer(prefix)]);
    LEASE.run(link, call.arg(owner).arg(ttl.as_millis() as u64)).await
}

/// Reads entries after one position up to another one of the same stream.
pub(super) async fn read(
    link: &Link,
    prefix: &Prefix,
    after: Position,
    until: Position,
    entries: usize,
) -> Result<Vec<Delivered>, Fault> {
    let mut command = redis::cmd("XRANGE");
    command.arg(StreamKeys::new(prefix, until.stream).stream).arg(format!("({}", reply::id(&after)));
    command.arg(reply::id(&until)).arg("COUNT").arg(entries.max(1));
    let found = reply::entries_of(link.query(&command).await?, until.stream)?;
    Ok(found.into_iter().filter_map(|found| found.entry).collect())
}

/// Saves how far a part is stored, unless it is not pending any more.
pub(super) async fn save(link: &Link, prefix: &Prefix, part: &StreamReplay) -> Result<(), Fault> {
    let mut call = SAVE.call(&[StreamKeys::new(prefix, part.until.stream).replay]);
    call.arg(part.id).arg(reply::id(&part.reached)).arg(part.number);
    let saved: bool = SAVE.run(link, &call).await?;
    if !saved {
        tracing::debug!(stream = part.until.stream, "another replica has ended this replay");
    }
    Ok(())
}

/// Notes the loss, and ends the replay of these parts.
pub(super) async fn end(link: &Link, prefix: &Prefix, pending: &PendingReplay) -> Result<(), Fault> {
    let Loss { detected, survived, covered_since } = pending.loss;
    let text = |time: Option<u64>| time.map_or_else(String::new, |millis| millis.to_string());
    let mut note = redis::pipe();
    note.atomic();
    note.cmd("HSET").arg(keys::loss(prefix)).arg("detected").arg(detected);
    note.arg("survived").arg(text(survived)).arg("covered").arg(text(covered_since));
    note.cmd("PEXPIRE").arg(keys::loss(prefix)).arg(LOSS_TTL.as_millis() as u64);
    link.pipeline(&note).await?;
    for part in &pending.streams {
        let keys = StreamKeys::new(prefix, part.until.stream);
        let mut call = END.call(&[&keys.replay, &keys.window]);
        END.run::<bool>(link, call.arg(part.id)).await?;
    }
    Ok(())
}

/// Forgets the marks of these workers if they acknowledged nothing for `age`.
pub(super) async fn forget(
    link: &Link,
    streams: &[StreamKeys],
    workers: &[String],
    age: Duration,
) -> Result<(), Fault> {
    if workers.is_empty() {
        return Ok(());
    }
    for keys in streams {
        let mut call = FORGET.call(&[&keys.marks, &keys.replay]);
        let forgotten: u64 = FORGET.run(link, call.arg(age.as_secs()).arg(workers)).await?;
        tracing::debug!(stream = keys.stream, forgotten, "forgot the marks of workers that are gone");
    }
    Ok(())
}
