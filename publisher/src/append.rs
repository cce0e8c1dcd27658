//! Appends one entry, and repeats the append under the entry's id until the log answers.

use std::time::Duration;

use sluice_event::{EntryId, compressed};
use sluice_log::{Append, Appended, LogError, LogWriter};
use sluice_service::backoff::Backoff;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::append_trace::AppendTrace;
use crate::pressure::{Full, Gate};
use crate::waiting::{Outcome, Waiting};

const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Packs requests into an entry, appends it, and reports the outcome to each of them. Requests that
/// reuse a key are refused, and the rest is packed again under a new id: nothing of the first entry
/// was written.
pub(crate) async fn append(stream: u16, log: &dyn LogWriter, gate: &Gate, mut requests: Vec<Waiting>) {
    while !requests.is_empty() {
        let entry = compressed::pack(EntryId::random(), requests.iter().map(|waiting| &waiting.packed.request));
        let keyed = requests.iter().filter_map(|waiting| waiting.packed.keyed).collect();
        let append = Append { stream, entry, keyed };
        let mut trace = AppendTrace::begin(&requests);
        let answer = append_until_answered(log, &append, &requests, trace.as_mut()).await;
        if let Some(trace) = trace {
            trace.end(&append, &answer);
        }
        match answer {
            Ok(Appended::Stored { backlog }) => {
                metrics::counter!(crate::metrics::ENTRIES.name).increment(1);
                metrics::counter!(crate::metrics::ENTRY_BYTES.name).increment(append.entry.body.len() as u64);
                gate.observe(backlog);
                return finish(requests, &Outcome::Stored);
            }
            Ok(Appended::KeyReused(indexes)) => {
                let before = requests.len();
                requests = refuse_reused(requests, &indexes);
                // Otherwise the same entry would be appended for ever.
                if requests.len() == before {
                    let cause =
                        format!("the log refused keys {indexes:?} of an entry with {} keys", append.keyed.len());
                    return finish(requests, &Outcome::Failed(cause));
                }
            }
            Err(LogError::Full(cause)) => return refuse(gate, Full::Memory, &cause, requests),
            Err(LogError::NoSpace(cause)) => return refuse(gate, Full::Disk, &cause, requests),
            Err(error @ (LogError::Unavailable(_) | LogError::Unauthenticated(_) | LogError::Failed(_))) => {
                return finish(requests, &Outcome::Failed(error.to_string()));
            }
        }
    }
}

/// Appends until the log answers or nobody waits any more. It is always the same entry under the
/// same id, so that the aggregators recognise a second one, whose first answer was lost, by the
/// receipts in it.
async fn append_until_answered(
    log: &dyn LogWriter,
    append: &Append,
    requests: &[Waiting],
    mut trace: Option<&mut AppendTrace>,
) -> Result<Appended, LogError> {
    let deadline = requests.iter().map(|waiting| waiting.deadline).max().unwrap_or_else(Instant::now);
    let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);
    loop {
        let began = Instant::now();
        let answer = timeout_at(deadline, log.append(append)).await;
        metrics::histogram!(crate::metrics::APPEND_SECONDS.name).record(began.elapsed().as_secs_f64());
        let error = match answer {
            Ok(Err(error @ (LogError::Unavailable(_) | LogError::Unauthenticated(_)))) => error,
            Ok(answer) => return answer,
            Err(_) => return Err(LogError::Unavailable("no answer in time".to_owned())),
        };
        let next = Instant::now() + backoff.next();
        if next >= deadline || requests.iter().all(|waiting| waiting.reply.is_closed()) {
            return Err(error);
        }
        let trace_id = trace.as_ref().and_then(|trace| trace.id());
        tracing::warn!(%error, entry = %append.entry.id, trace_id, "cannot append, trying again");
        if let Some(trace) = &mut trace {
            trace.repeat(&error);
        }
        metrics::counter!(crate::metrics::APPEND_REPEATS.name).increment(1);
        sleep_until(next).await;
    }
}

/// Reports to the requests that reuse a key that they are refused, and returns the others.
/// `indexes` count keyed requests only.
fn refuse_reused(requests: Vec<Waiting>, indexes: &[usize]) -> Vec<Waiting> {
    let mut number = 0;
    let mut rest = Vec::with_capacity(requests.len());
    for waiting in requests {
        let keyed = waiting.packed.keyed.is_some();
        if keyed && indexes.contains(&number) {
            waiting.finish(Outcome::KeyReused);
        } else {
            rest.push(waiting);
        }
        number += usize::from(keyed);
    }
    rest
}

/// Refuses these requests and the following ones, because the log has no room.
fn refuse(gate: &Gate, full: Full, cause: &str, requests: Vec<Waiting>) {
    gate.close(full, cause);
    finish(requests, &Outcome::Full(full));
}

fn finish(requests: Vec<Waiting>, outcome: &Outcome) {
    for waiting in requests {
        waiting.finish(outcome.clone());
    }
}
