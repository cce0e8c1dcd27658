//! The way of a request to a server and of its answer back. Each part can be lost, late or both.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::process::Process;
use crate::world::{Fate, Link, World};

/// Why there is no answer. The sender cannot tell these apart, and must not use them; they are for the
/// bookkeeping of the model.
pub enum Lost {
    /// The server never saw the request.
    Request,
    /// The server will execute the request later.
    Late,
    /// The server executed the request.
    Answer,
}

/// A request that has been sent. If its sender dies, it may still arrive.
struct Sent<F: FnOnce() -> T, T> {
    request: Option<F>,
    arrives_if_dropped: bool,
}

impl<F: FnOnce() -> T, T> Drop for Sent<F, T> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take()
            && self.arrives_if_dropped
        {
            request();
        }
    }
}

/// What happened to a request that is to be executed while its sender waits.
enum Arrived<F> {
    /// The server has it. The answer reaches the sender if this is true.
    Here(F, bool),
    /// It is lost, or late; the sender has noticed that there will be no answer.
    NotHere,
    /// As [`Arrived::NotHere`], and the server will execute it later.
    Later,
}

/// Sends a request and returns the answer. `request` is executed by the server, in one step.
pub async fn call<T, F>(world: &Arc<World>, process: &Process, link: Link, request: F) -> Result<T, Lost>
where
    T: Send,
    F: FnOnce() -> T + Send + 'static,
{
    match send(world, process, link, request).await {
        Arrived::Here(request, is_answered) => answer(world, process, link, request(), is_answered).await,
        Arrived::NotHere => Err(Lost::Request),
        Arrived::Later => Err(Lost::Late),
    }
}

/// Does what [`call`] does, for a request that waits at the server until `is_ready` or until `deadline`. It is executed
/// whenever the server notifies `changed`, in the order in which requests arrived there.
pub async fn call_and_wait<T, F>(
    world: &Arc<World>,
    process: &Process,
    link: Link,
    request: F,
    is_ready: impl Fn(&T) -> bool,
    (changed, deadline): (&Notify, Instant),
) -> Result<T, Lost>
where
    T: Send,
    F: Fn() -> T + Send + 'static,
{
    match send(world, process, link, request).await {
        Arrived::Here(request, is_answered) => loop {
            let change = changed.notified();
            let result = request();
            if is_ready(&result) || timeout_at(deadline, change).await.is_err() {
                return answer(world, process, link, result, is_answered).await;
            }
        },
        Arrived::NotHere => Err(Lost::Request),
        Arrived::Later => Err(Lost::Late),
    }
}

/// Sends a request to the server.
async fn send<T, F>(world: &Arc<World>, process: &Process, link: Link, request: F) -> Arrived<F>
where
    F: FnOnce() -> T + Send + 'static,
{
    process.running().await;
    let mut sent = Sent { request: Some(request), arrives_if_dropped: world.chance(0.5) };
    world.travel().await;
    let fate = world.fate(link);
    let Some(request) = sent.request.take() else { return Arrived::NotHere };
    match fate {
        Fate::Answered => Arrived::Here(request, true),
        Fate::AnswerLost => Arrived::Here(request, false),
        Fate::Lost => {
            drop(request);
            notice(world, process).await;
            Arrived::NotHere
        }
        Fate::Late(time) => {
            world.late_begins();
            let world_then = world.clone();
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                request();
                world_then.late_ends();
            });
            notice(world, process).await;
            Arrived::Later
        }
    }
}

/// Sends the answer back.
async fn answer<T>(world: &World, process: &Process, link: Link, answer: T, is_answered: bool) -> Result<T, Lost> {
    if is_answered && !world.is_down(link) {
        world.travel().await;
        process.running().await;
        return Ok(answer);
    }
    notice(world, process).await;
    Err(Lost::Answer)
}

/// Waits until the sender notices that its connection is broken.
async fn notice(world: &World, process: &Process) {
    tokio::time::sleep(world.millis_between(1, 200)).await;
    process.running().await;
}
