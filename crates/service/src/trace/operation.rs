//! An operation that several requests share: an entry that is appended and read, a transaction with many entries.

use std::time::SystemTime;

use sluice_event::TraceContext;

use super::recorder::Tracing;
use super::span::{Span, SpanEvent, SpanKind, Value, new_span_id};

/// The largest number of requests in whose traces an operation is recorded.
const MAX_MEMBERS: usize = 64;

/// A traced request that has a part in an operation.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Its trace, and the span to which that of the operation belongs.
    pub parent: TraceContext,
    /// Whether that span was made by another process.
    pub has_remote_parent: bool,
    /// The id of the span of the operation in its trace.
    pub span_id: [u8; 8],
}

impl Member {
    /// Returns the part of a request, by the span of its publisher.
    pub fn of(parent: TraceContext, has_remote_parent: bool) -> Self {
        Self { parent, has_remote_parent, span_id: new_span_id() }
    }

    /// Returns the part of the same request in what follows the operation.
    #[must_use]
    pub fn next(&self) -> Self {
        Self::of(self.span(), false)
    }

    /// Returns the span of the operation in its trace.
    pub fn span(&self) -> TraceContext {
        TraceContext { span_id: self.span_id, ..self.parent }
    }
}

/// An operation that has ended.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// What its span is to the spans around it.
    pub kind: SpanKind,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What is known about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What happened meanwhile.
    pub events: Vec<SpanEvent>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Operation {
    /// Records it in the trace of each of the requests that share it. The span of the first request has links to those of the
    /// others, and each of these has one to it, so that from each trace all others are found. Of more than 64 requests the
    /// others are left out.
    pub fn record_in_each(self, tracing: &Tracing, members: &[Member]) {
        let members = &members[..members.len().min(MAX_MEMBERS)];
        for (number, member) in members.iter().enumerate() {
            let links = match number {
                0 => members[1..].iter().map(Member::span).collect(),
                _ => vec![members[0].span()],
            };
            let Self { name, kind, started, ended, .. } = self;
            tracing.recorder.record(Span {
                context: member.span(),
                parent: Some(member.parent.span_id),
                has_remote_parent: member.has_remote_parent,
                name: name.into(),
                kind,
                started,
                // Clocks may be set back meanwhile.
                ended: ended.max(started),
                attributes: self.attributes.clone(),
                events: self.events.clone(),
                links,
                error: self.error.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::trace::{Recorder, Sampling, Systems};

    #[derive(Default, Clone)]
    struct Kept(Arc<Mutex<Vec<Span>>>);

    impl Recorder for Kept {
        fn record(&self, span: Span) {
            self.0.lock().unwrap().push(span);
        }
    }

    fn recorded(members: u8) -> Vec<Span> {
        let kept = Kept::default();
        let systems = Systems { log: "redis", streams: "sluice".to_owned(), store: "postgresql" };
        let tracing = Tracing { recorder: Box::new(kept.clone()), sampling: Sampling::new(0.0, 1), systems };
        let parent = |n| TraceContext { trace_id: [n; 16], span_id: [n; 8] };
        let member = |n| Member { span_id: [100 + n; 8], ..Member::of(parent(n), true) };
        let operation = Operation {
            name: "append",
            kind: SpanKind::Producer,
            started: UNIX_EPOCH + Duration::from_secs(2),
            ended: UNIX_EPOCH + Duration::from_secs(1),
            attributes: vec![("n", Value::from(7_u64))],
            events: Vec::new(),
            error: None,
        };
        operation.record_in_each(&tracing, &(1..=members).map(member).collect::<Vec<_>>());
        kept.0.lock().unwrap().clone()
    }

    #[test]
    fn each_request_has_a_span_in_its_own_trace_and_all_are_linked_with_that_of_the_first() {
        let spans = recorded(3);
        let of = |n: u8| TraceContext { trace_id: [n; 16], span_id: [100 + n; 8] };
        assert_eq!(spans.iter().map(|span| span.context).collect::<Vec<_>>(), [of(1), of(2), of(3)]);
        let parents: Vec<_> = spans.iter().map(|span| span.parent).collect();
        assert_eq!(parents, [1, 2, 3].map(|n| Some([n; 8])));
        assert_eq!(
            spans.iter().map(|span| span.links.clone()).collect::<Vec<_>>(),
            [vec![of(2), of(3)], vec![of(1)], vec![of(1)]]
        );
        assert!(spans.iter().all(|span| span.ended == span.started), "a clock that was set back");
    }

    #[test]
    fn an_operation_of_one_request_has_no_links_and_that_of_many_is_bounded() {
        assert_eq!(recorded(1)[0].links, []);
        assert_eq!(recorded(100).len(), MAX_MEMBERS);
    }
}
