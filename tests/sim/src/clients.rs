//! Clients that publish, and repeat a request under its `Idempotency-Key` until it is answered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use sluice_event::{RequestId, ambient};
use tower::ServiceExt;

use crate::requests::Answer;
use crate::system::System;
use crate::world::Clock;

/// The longest that a client repeats a request: much shorter than keys are remembered.
const GIVE_UP: Duration = Duration::from_secs(120);

/// Sends requests, one after the other, until so many were drawn by all clients.
pub async fn client(system: Arc<System>, name: String) {
    let (world, settings) = (&system.world, &system.settings);
    let pause = settings.load.as_millis() as u64 * settings.clients as u64 * 2 / settings.requests as u64;
    while let Some(number) = system.next_request() {
        tokio::time::sleep(world.millis_between(0, pause)).await;
        publish(&system, &name, number).await;
    }
}

/// Sends a request until it is answered, if it has a key; else once.
async fn publish(system: &System, name: &str, number: usize) {
    let world = &system.world;
    let began = world.elapsed();
    let keyed = system.requests.change(number, |request| request.key.is_some());
    loop {
        let answer = send(system, name, number).await;
        system.requests.change(number, |request| request.answer = answer);
        world.note(name, || format!("request {number}: {answer:?}"));
        if answer != Answer::Unknown || !keyed || world.elapsed() - began > GIVE_UP {
            return;
        }
        tokio::time::sleep(world.millis_between(10, 500)).await;
    }
}

/// Sends a request once.
async fn send(system: &System, name: &str, number: usize) -> Answer {
    let world = &system.world;
    let id = RequestId::random();
    let (key, body) = system.requests.change(number, |request| {
        request.sendings.push(id);
        (request.key.clone(), request.body())
    });
    let Some((router, process)) = system.publisher(world.index(system.settings.publishers)) else {
        world.note(name, || format!("request {number} as {id} to no publisher: none runs"));
        return Answer::Unknown;
    };
    world.note(name, || format!("request {number} as {id} to {}: key {key:?} {body}", process.label));
    let mut request = Request::post("/publish").header("content-type", "application/json").extension(id);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let Ok(request) = request.body(Body::from(body)) else { return Answer::Unknown };
    // Some clients are impatient: they leave while the publisher still works on the request.
    let patience = if world.chance(0.05) { world.millis_between(0, 100) } else { Duration::from_secs(20) };
    let answered = async {
        process.running().await;
        ambient::set_time_for_tests(world.millis(Clock::Publisher) as i64 * 1_000);
        let response = router.oneshot(request).await;
        process.running().await;
        response
    };
    let status = tokio::select! {
        biased;
        () = process.died() => return Answer::Unknown,
        response = answered => response.map(|response| response.status()),
        () = tokio::time::sleep(patience) => return Answer::Unknown,
    };
    match status {
        Ok(StatusCode::ACCEPTED) => Answer::Accepted,
        Ok(StatusCode::UNPROCESSABLE_ENTITY) => Answer::KeyReused,
        Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => Answer::Unknown,
        Ok(other) => {
            world.violation(format!("request {number} was answered {other}"));
            Answer::Unknown
        }
    }
}
