//! The schemas of topics: gets them from the log, where the aggregators leave them, and tells how many events did not match.
//!
//! A publisher can accept nothing without the log. So it waits until it has read the schemas once: no event passes unchecked
//! because a publisher has just started. Whatever fails later, the last schemas stay in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use sluice_log::notice::{NoticeRead, Tallies};
use sluice_log::{LogError, LogWriter};
use sluice_schema::{Schemas, tally_name};
use sluice_service::backoff::Backoff;
use sluice_service::problem::Problem;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::metrics;
use crate::problems::log_unavailable;

/// How often they are looked for. It is a small request, and the time until a change is in force.
const EVERY: Duration = Duration::from_secs(1);
/// Pauses while the log does not answer grow from the first to the second.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The schemas in force, as this publisher knows them.
pub(crate) struct TopicSchemas {
    /// `None` until they were read.
    current: ArcSwapOption<Schemas>,
    was_read: Notify,
    /// The number of schemas that cannot be used.
    unusable: AtomicUsize,
}

impl TopicSchemas {
    /// Returns the schemas of a log, not read yet.
    pub(crate) fn new(log: &dyn LogWriter) -> Self {
        let none = (!log.has_notices()).then(|| Arc::new(Schemas::default()));
        Self { current: ArcSwapOption::new(none), was_read: Notify::new(), unusable: AtomicUsize::new(0) }
    }

    /// Returns the schemas; `None` if no topic has one. Waits until they were read once, for as long as a request may wait for
    /// the log.
    ///
    /// # Errors
    /// `log_unavailable`.
    pub(crate) async fn current(&self, patience: Duration) -> Result<Option<Arc<Schemas>>, Problem> {
        if let Some(schemas) = &*self.current.load() {
            return Ok((!schemas.is_empty()).then(|| Arc::clone(schemas)));
        }
        let reading = async {
            loop {
                let mut was_read = std::pin::pin!(self.was_read.notified());
                // From here on it cannot be missed.
                was_read.as_mut().enable();
                if let Some(schemas) = self.current.load_full() {
                    return schemas;
                }
                was_read.await;
            }
        };
        let schemas = timeout(patience, reading).await;
        let schemas = schemas.map_err(|_| log_unavailable("the schemas of topics were not read from the log yet"))?;
        Ok((!schemas.is_empty()).then_some(schemas))
    }

    /// Returns what is wrong with them, in words.
    pub(crate) fn notes(&self) -> Vec<String> {
        let unread =
            self.current.load().is_none().then(|| "the schemas of topics were not read from the log yet".to_owned());
        let unusable = match self.unusable.load(Ordering::Relaxed) {
            0 => None,
            count => {
                Some(format!("{count} schemas of topics cannot be used, and events of these topics are not checked"))
            }
        };
        unread.into_iter().chain(unusable).collect()
    }

    /// Looks for other schemas, and tells how many events did not match. Never returns.
    pub(crate) async fn watch(self: Arc<Self>, log: Arc<dyn LogWriter>) {
        if !log.has_notices() {
            return;
        }
        let mut watching = Watching { schemas: self, known: None, tallies: Tallies::new() };
        let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);
        loop {
            let done = watching.refresh(&*log).await;
            watching.take_violations();
            let told = watching.tell(&*log).await;
            let pause = match done.and(told) {
                Ok(()) => {
                    backoff.reset();
                    EVERY
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot read the schemas of topics from the log");
                    backoff.next().max(FIRST_BACKOFF)
                }
            };
            sleep(pause).await;
        }
    }

    fn set(&self, schemas: Schemas) {
        ::metrics::gauge!(metrics::SCHEMAS.name).set(schemas.len() as f64);
        self.current.store(Some(Arc::new(schemas)));
        self.was_read.notify_waiters();
    }

    fn set_unusable(&self, unusable: &[String]) {
        for reason in unusable {
            tracing::error!(reason, "the events of this topic are not checked");
        }
        ::metrics::gauge!(metrics::SCHEMAS_UNUSABLE.name).set(unusable.len() as f64);
        self.unusable.store(unusable.len(), Ordering::Relaxed);
    }
}

/// What the task knows that looks for schemas.
struct Watching {
    schemas: Arc<TopicSchemas>,
    /// The tag of the last notice.
    known: Option<String>,
    /// Violations that were not told yet.
    tallies: Tallies,
}

impl Watching {
    async fn refresh(&mut self, log: &dyn LogWriter) -> Result<(), LogError> {
        let notice = match log.notice(self.known.as_deref()).await? {
            NoticeRead::Unchanged => return Ok(()),
            NoticeRead::Absent => {
                // Either no aggregator has started yet, or the log has lost it: then the last ones stay in force.
                if self.schemas.current.load().is_none() {
                    self.schemas.set(Schemas::default());
                }
                return Ok(());
            }
            NoticeRead::Changed(notice) => notice,
        };
        let document = notice.document.clone();
        let compiled = tokio::task::spawn_blocking(move || Schemas::compile(&document)).await;
        match compiled.unwrap_or_else(|error| Err(error.to_string())) {
            Ok((schemas, unusable)) => {
                tracing::info!(schemas = schemas.len(), "other schemas of topics are in force");
                self.schemas.set_unusable(&unusable);
                self.take_violations();
                self.schemas.set(schemas);
            }
            Err(reason) => {
                tracing::error!(reason, "what the aggregators say about schemas of topics cannot be read");
                self.schemas.set_unusable(&[reason]);
                if self.schemas.current.load().is_none() {
                    self.schemas.set(Schemas::default());
                }
            }
        }
        self.known = Some(notice.tag);
        Ok(())
    }

    /// Takes what was counted since the last time.
    fn take_violations(&mut self) {
        let Some(schemas) = self.schemas.current.load_full() else { return };
        for (topic, version, violations) in schemas.take_violations() {
            *self.tallies.entry(tally_name(topic, version)).or_default() += violations;
        }
    }

    async fn tell(&mut self, log: &dyn LogWriter) -> Result<(), LogError> {
        if !self.tallies.is_empty() {
            log.add_to_tallies(&self.tallies).await?;
            self.tallies.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use sluice_log::notice::Notice;
    use sluice_log::{Append, Appended, Pressure};
    use sluice_schema::{InForce, Policy};

    use super::*;

    /// A log of which only the notice is used.
    struct Board(Mutex<Result<NoticeRead, LogError>>, Mutex<Tallies>);

    impl Board {
        fn new(read: Result<NoticeRead, LogError>) -> Arc<Self> {
            Arc::new(Self(Mutex::new(read), Mutex::default()))
        }

        fn set(&self, read: Result<NoticeRead, LogError>) {
            *self.0.lock().unwrap() = read;
        }
    }

    #[async_trait]
    impl LogWriter for Board {
        fn streams(&self) -> u16 {
            1
        }

        async fn append(&self, _: &Append) -> Result<Appended, LogError> {
            unreachable!("nothing is appended")
        }

        async fn pressure(&self) -> Result<Pressure, LogError> {
            unreachable!("nobody asks")
        }

        fn has_notices(&self) -> bool {
            true
        }

        async fn notice(&self, known: Option<&str>) -> Result<NoticeRead, LogError> {
            match self.0.lock().unwrap().clone()? {
                NoticeRead::Changed(notice) if known == Some(&notice.tag) => Ok(NoticeRead::Unchanged),
                read => Ok(read),
            }
        }

        async fn add_to_tallies(&self, tallies: &Tallies) -> Result<(), LogError> {
            self.0.lock().unwrap().clone()?;
            for (name, number) in tallies {
                *self.1.lock().unwrap().entry(name.clone()).or_default() += number;
            }
            Ok(())
        }
    }

    fn refused() -> Result<NoticeRead, LogError> {
        Err(LogError::Unavailable("it is away".into()))
    }

    fn of(topic: &str, version: u32) -> Result<NoticeRead, LogError> {
        let schema = InForce { topic, version, policy: Policy::Refuse, schema: "false" };
        Ok(NoticeRead::Changed(Notice::new(Schemas::document([schema]).unwrap())))
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Waits until a topic has this version of a schema.
    async fn has(schemas: &TopicSchemas, topic: &str, version: u32) -> Arc<Schemas> {
        for _ in 0..6_000 {
            let current = schemas.current(PATIENCE).await.unwrap();
            if let Some(current) = current.filter(|s| s.of(topic).is_some_and(|schema| schema.version == version)) {
                return current;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{topic} does not get the version {version}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_until_the_schemas_were_read_and_no_longer_than_they_may() {
        let log = Board::new(refused());
        let schemas = Arc::new(TopicSchemas::new(&*log));
        tokio::spawn(schemas.clone().watch(log.clone()));
        let problem = schemas.current(PATIENCE).await.unwrap_err();
        assert_eq!(problem.code(), sluice_service::code::Code::LogUnavailable);
        assert_eq!(schemas.notes().len(), 1);
        log.set(of("t", 1));
        has(&schemas, "t", 1).await;
        assert!(schemas.notes().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_schemas_stay_in_force_whatever_becomes_of_the_notice() {
        let log = Board::new(of("t", 1));
        let schemas = Arc::new(TopicSchemas::new(&*log));
        tokio::spawn(schemas.clone().watch(log.clone()));
        has(&schemas, "t", 1).await;
        for read in [refused(), Ok(NoticeRead::Absent), Ok(NoticeRead::Changed(Notice::new("nonsense")))] {
            log.set(read);
            sleep(EVERY * 5).await;
            has(&schemas, "t", 1).await;
        }
        assert_eq!(schemas.notes().len(), 1, "{:?}", schemas.notes());
        log.set(of("t", 2));
        has(&schemas, "t", 2).await;
        assert!(schemas.notes().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_notice_no_topic_has_a_schema() {
        let log = Board::new(Ok(NoticeRead::Absent));
        let schemas = Arc::new(TopicSchemas::new(&*log));
        tokio::spawn(schemas.clone().watch(log.clone()));
        assert!(schemas.current(PATIENCE).await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn violations_are_told_once_also_if_the_log_was_away() {
        let log = Board::new(of("t", 3));
        let schemas = Arc::new(TopicSchemas::new(&*log));
        tokio::spawn(schemas.clone().watch(log.clone()));
        let current = has(&schemas, "t", 3).await;
        log.set(refused());
        for _ in 0..2 {
            assert!(current.of("t").unwrap().check("1").is_err());
            sleep(EVERY * 3).await;
        }
        log.set(of("t", 4));
        has(&schemas, "t", 4).await;
        sleep(EVERY * 3).await;
        assert_eq!(*log.1.lock().unwrap(), Tallies::from([("3 t".to_owned(), 2)]));
    }
}
