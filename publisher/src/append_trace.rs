//! The spans of an append: one in the trace of each traced request of the entry.

use std::time::SystemTime;

use sluice_log::{Append, Appended, LogError};
use sluice_service::code::Code;
use sluice_service::trace::{self, Member, Operation, SpanEvent, SpanKind, Tracing, Value, hex_of};

use crate::waiting::Waiting;

/// The largest number of repetitions that are named.
const MAX_REPEATS: usize = 16;

/// An append with a traced request.
pub(crate) struct AppendTrace {
    tracing: &'static Tracing,
    members: Vec<Member>,
    requests: usize,
    started: SystemTime,
    repeats: Vec<SpanEvent>,
}

impl AppendTrace {
    /// Returns the trace of an append that begins now; `None` if none of the requests is traced.
    pub(crate) fn begin(requests: &[Waiting]) -> Option<Self> {
        let tracing = trace::active()?;
        let traced = requests.iter().filter_map(|waiting| waiting.packed.request.trace());
        let members: Vec<_> = traced.map(|parent| Member::of(parent, false)).collect();
        if members.is_empty() {
            return None;
        }
        Some(Self { tracing, members, requests: requests.len(), started: SystemTime::now(), repeats: Vec::new() })
    }

    /// Returns the id of the first trace, for log lines.
    pub(crate) fn id(&self) -> Option<String> {
        self.members.first().map(|member| hex_of(member.parent))
    }

    /// Notes that the append is repeated, for this reason.
    pub(crate) fn repeat(&mut self, error: &LogError) {
        if self.repeats.len() < MAX_REPEATS {
            self.repeats.push(SpanEvent { name: "repeat", time: SystemTime::now(), error: error.to_string() });
        }
    }

    /// Records the spans.
    pub(crate) fn end(self, append: &Append, answer: &Result<Appended, LogError>) {
        let systems = &self.tracing.systems;
        let mut attributes = vec![
            ("messaging.system", Value::from(systems.log)),
            ("messaging.operation.name", "append".into()),
            ("messaging.operation.type", "send".into()),
            ("messaging.destination.name", systems.streams.clone().into()),
            ("messaging.destination.partition.id", append.stream.to_string().into()),
            ("messaging.batch.message_count", append.entry.events.into()),
            ("sluice.entry.id", append.entry.id.to_string().into()),
            ("sluice.entry.requests", (self.requests as u64).into()),
        ];
        let failure = failure(answer);
        attributes.extend(failure.as_ref().map(|(code, _)| ("error.type", code.as_str().into())));
        let operation = Operation {
            name: "append",
            kind: SpanKind::Producer,
            started: self.started,
            ended: SystemTime::now(),
            attributes,
            events: self.repeats,
            error: failure.map(|(_, reason)| reason),
        };
        operation.record_in_each(self.tracing, &self.members);
    }
}

/// Returns why nothing was appended, with the code that the clients get.
fn failure(answer: &Result<Appended, LogError>) -> Option<(Code, String)> {
    match answer {
        Ok(Appended::Stored { .. }) => None,
        Ok(Appended::KeyReused(_)) => Some((Code::IdempotencyKeyReused, "a key was used with another body".to_owned())),
        Err(error @ LogError::Full(_)) => Some((Code::LogMemoryFull, error.to_string())),
        Err(error @ LogError::NoSpace(_)) => Some((Code::LogFull, error.to_string())),
        Err(error) => Some((Code::LogUnavailable, error.to_string())),
    }
}
