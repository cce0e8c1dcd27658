//! The requests that clients send, and what they know of each.

use std::sync::Mutex;

use sluice_event::RequestId;

use crate::settings::Settings;
use crate::store::events::{KILLS, REFUSED};
use crate::world::{World, lock};

/// One event of a request.
#[derive(Debug, Clone)]
pub struct SentEvent {
    /// Its topic.
    pub topic: String,
    /// Its id.
    pub id: String,
    /// Its payload.
    pub payload: String,
}

/// What a client knows of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was answered 202.
    Accepted,
    /// Its key was used with another body.
    KeyReused,
    /// It was refused, or there was no answer. It may be stored all the same.
    Unknown,
}

/// A request, with all its sendings.
#[derive(Debug, Clone)]
pub struct SentRequest {
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
    /// Its events.
    pub events: Vec<SentEvent>,
    /// The id of each sending.
    pub sendings: Vec<RequestId>,
    /// The last answer.
    pub answer: Answer,
}

impl SentRequest {
    /// Returns the body.
    pub fn body(&self) -> String {
        let event = |event: &SentEvent| {
            format!(r#"{{"topic":"{}","event_id":"{}","payload":{}}}"#, event.topic, event.id, event.payload)
        };
        format!("[{}]", self.events.iter().map(event).collect::<Vec<_>>().join(","))
    }
}

/// All requests of a schedule.
#[derive(Default)]
pub struct Requests {
    sent: Mutex<Vec<SentRequest>>,
}

impl Requests {
    /// Draws the next request and returns its number.
    pub fn draw(&self, world: &World, settings: &Settings) -> usize {
        let mut sent = lock(&self.sent);
        let number = sent.len();
        let key = if world.chance(0.04) && number > 0 {
            // The key of another request, whose body differs.
            sent[world.index(number)].key.clone()
        } else {
            world.chance(0.6).then(|| format!("key-{number}"))
        };
        let mut events: Vec<_> = (0..world.between(1, 5)).map(|_| event(world, settings)).collect();
        if settings.killer && number == 20 {
            events = vec![SentEvent { topic: "t0".into(), id: "killer".into(), payload: KILLS.into() }];
        }
        sent.push(SentRequest { key, events, sendings: Vec::new(), answer: Answer::Unknown });
        number
    }

    /// Changes a request.
    pub fn change<T>(&self, number: usize, change: impl FnOnce(&mut SentRequest) -> T) -> T {
        change(&mut lock(&self.sent)[number])
    }

    /// Returns all of them.
    pub fn all(&self) -> Vec<SentRequest> {
        lock(&self.sent).clone()
    }
}

fn event(world: &World, settings: &Settings) -> SentEvent {
    let payload = match world.between(0, 99) {
        0..=2 => REFUSED.to_owned(),
        // Most sendings of an event have the same payload; the others conflict.
        3..=90 => r#"{"value":1}"#.to_owned(),
        _ => format!(r#"{{"value":{}}}"#, world.between(2, 4)),
    };
    let topic = format!("t{}", world.index(3));
    SentEvent { topic, id: format!("e{}", world.between(1, settings.ids)), payload }
}
