//! Answers that are used again for a short time, so that what is asked for often is made once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use sluice_store::Patterns;

/// How long an answer is used again.
pub(super) const TTL: Duration = Duration::from_secs(2);
/// The number of answers that are held, each for another set of topics that subjects are bounded by.
const MAX_HELD: usize = 64;

/// The answers, by the topics of the subjects that they are for. The one that was used last is the last one.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<Mutex<Places>>);

type Places = Vec<(Option<Patterns>, Place)>;
/// Whoever makes an answer holds the lock, and all others who want it wait for it.
type Place = Arc<tokio::sync::Mutex<Option<(Instant, Bytes)>>>;

impl Held {
    /// Returns the answer for subjects with these topics, and makes it if there is none that is recent.
    pub async fn get<E>(
        &self,
        patterns: &Option<Patterns>,
        make: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        let place = self.place(patterns);
        let mut held = place.lock().await;
        if let Some((made_at, answer)) = &*held
            && made_at.elapsed() < TTL
        {
            return Ok(answer.clone());
        }
        let answer = make.await?;
        *held = Some((Instant::now(), answer.clone()));
        Ok(answer)
    }

    fn place(&self, patterns: &Option<Patterns>) -> Place {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = places.iter().position(|(of, _)| of == patterns).map(|index| places.remove(index));
        let (patterns, place) = found.unwrap_or_else(|| (patterns.clone(), Place::default()));
        if places.len() >= MAX_HELD {
            places.remove(0);
        }
        places.push((patterns, place.clone()));
        place
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU8, Ordering};

    use sluice_auth::{TopicPattern, Topics};

    use super::*;

    fn topics(name: &str) -> Option<Patterns> {
        Patterns::of(&Topics::Only([name.parse::<TopicPattern>().unwrap()].into()))
    }

    #[tokio::test]
    async fn an_answer_is_made_once_for_all_who_ask_at_the_same_time_and_for_each_set_of_topics() {
        let (held, made) = (Held::default(), AtomicU8::new(0));
        let (of_all, of_a) = (None, topics("a"));
        let ask = async |patterns: &Option<Patterns>| {
            let make = async {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Bytes::from(vec![made.fetch_add(1, Ordering::Relaxed)]))
            };
            held.get(patterns, make).await.unwrap()[0]
        };
        let answers = tokio::join!(ask(&of_all), ask(&of_all), ask(&of_a), ask(&of_all));
        assert_eq!((answers.0, answers.1, answers.3), (answers.0, answers.0, answers.0));
        assert_ne!(answers.2, answers.0);
        assert_eq!(made.load(Ordering::Relaxed), 2);
        for n in 0..MAX_HELD {
            ask(&topics(&format!("other-{n}"))).await;
        }
        assert_eq!(held.0.lock().unwrap().len(), MAX_HELD);
    }
}
