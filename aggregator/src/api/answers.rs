//! Bounds the memory that answers take until their clients have read them: the number of large answers at a time, and
//! the time that each may take.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use sluice_service::problem::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::problems::too_many_queries;

/// The number of answers of one kind that are being made or sent at the same time.
const MAX_ANSWERS: usize = 32;
/// The longest that a request waits until its answer may be made.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The size of a frame, in bytes. The server holds a few of them for each connection. An answer that is not larger is
/// sent as it is: it takes no more memory than the buffers of its connection.
const FRAME_BYTES: usize = 64 << 10;
/// How much longer a client may take than it would at [`MIN_RATE`].
const GRACE: Duration = Duration::from_secs(10);
/// The rate, in bytes per second, at which a client must read.
const MIN_RATE: f64 = 65_536.0;

/// The bound that all answers of one kind share.
#[derive(Clone)]
pub(super) struct Answers {
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Answers {
    fn default() -> Self {
        Self::new(MAX_ANSWERS, PATIENCE)
    }
}

impl Answers {
    /// Creates a bound of so many answers.
    pub fn new(max_answers: usize, patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(max_answers)), patience }
    }

    /// Waits until an answer may be made.
    ///
    /// # Errors
    /// `too_many_queries` if that takes too long.
    pub async fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        match timeout(self.patience, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(too_many_queries()),
        }
    }
}

/// Waits for a place, makes the answer, and holds the place until the client has read it or is cut off.
pub(super) async fn bounded(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let place = match answers.place().await {
        Ok(place) => place,
        Err(problem) => return problem.into_response(),
    };
    let is_head = *request.method() == Method::HEAD;
    let response = next.run(request).await;
    // The headers of a response to HEAD are complete, and nobody reads its body.
    if is_head { response } else { send(response, place, GRACE) }
}

fn send(response: Response, place: OwnedSemaphorePermit, grace: Duration) -> Response {
    let (mut parts, body) = response.into_parts();
    let size = body.size_hint().exact();
    if size.is_some_and(|size| size <= FRAME_BYTES as u64) {
        return Response::from_parts(parts, body);
    }
    if let Some(size) = size {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    let (frames, bounded) = Frames::new(grace);
    tokio::spawn(async move {
        if copy(body, frames).await.is_err() {
            tracing::debug!("an answer ended early");
        }
        drop(place);
    });
    Response::from_parts(parts, bounded)
}

/// An answer that was not sent completely: it could not be made, or the client is gone or too slow.
struct Incomplete;

/// Sends a body in frames. If it fails, or the client reads too slowly, the mark of the end is missing.
async fn copy(body: Body, mut frames: Frames) -> Result<(), Incomplete> {
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let mut piece = piece.map_err(|_| Incomplete)?;
        while !piece.is_empty() {
            frames.send(piece.split_to(piece.len().min(FRAME_BYTES))).await?;
        }
    }
    frames.finish().await
}

/// Writes a body in frames.
struct Frames {
    /// `None` is the mark of the end. A body without it fails.
    sender: mpsc::Sender<Option<Bytes>>,
    sent: usize,
    waited: Duration,
    grace: Duration,
}

impl Frames {
    /// Returns the writer of a body, and the body.
    fn new(grace: Duration) -> (Self, Body) {
        // One frame waits while the server writes the one before it.
        let (sender, receiver) = mpsc::channel::<Option<Bytes>>(1);
        let frames = stream::unfold(Some(receiver), |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(Some(frame)) => Some((Ok(frame), Some(receiver))),
                Some(None) => None,
                // The connection is closed in the middle of the body, so the client does not take it for complete.
                None => Some((Err(io::Error::other("the answer ended early")), None)),
            }
        });
        (Self { sender, sent: 0, waited: Duration::ZERO, grace }, Body::from_stream(frames))
    }

    /// Sends a frame, as soon as the client has read enough of those before it.
    async fn send(&mut self, frame: Bytes) -> Result<(), Incomplete> {
        let bytes = frame.len();
        self.push(Some(frame)).await?;
        self.sent += bytes;
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Incomplete> {
        self.push(None).await
    }

    async fn push(&mut self, frame: Option<Bytes>) -> Result<(), Incomplete> {
        let allowed = self.grace + Duration::from_secs_f64(self.sent as f64 / MIN_RATE);
        let began = Instant::now();
        let pushed = timeout(allowed.saturating_sub(self.waited), self.sender.send(frame)).await;
        self.waited += began.elapsed();
        match pushed {
            Ok(Ok(())) => Ok(()),
            _ => Err(Incomplete),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames_of(body: Body) -> Vec<Option<usize>> {
        let read: Vec<_> = body.into_data_stream().collect().await;
        read.into_iter().map(|frame| frame.map(|frame| frame.len()).ok()).collect()
    }

    #[tokio::test]
    async fn a_place_is_taken_until_the_answer_is_read() {
        let answers = Answers::new(1, Duration::from_millis(1));
        let large = Response::new(Body::from(vec![0; 3 * FRAME_BYTES]));
        let response = send(large, answers.place().await.expect("a place"), GRACE);
        assert!(answers.place().await.is_err(), "the client has read nothing");
        assert_eq!(frames_of(response.into_body()).await, [Some(FRAME_BYTES); 3]);
        let patient = Answers { patience: Duration::from_secs(60), ..answers };
        assert!(patient.place().await.is_ok());
    }

    #[tokio::test]
    async fn a_small_answer_takes_no_place_while_it_is_read() {
        let answers = Answers::new(1, Duration::from_millis(1));
        let small = Response::new(Body::from(vec![0; FRAME_BYTES]));
        let _unread = send(small, answers.place().await.expect("a place"), GRACE);
        assert!(answers.place().await.is_ok());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off_and_does_not_take_its_answer_for_complete() {
        let answers = Answers::new(1, Duration::from_secs(60));
        let large = Response::new(Body::from(vec![0; 9 * FRAME_BYTES]));
        let response = send(large, answers.place().await.expect("a place"), Duration::ZERO);
        // The place is free again although nothing was read.
        assert!(answers.place().await.is_ok());
        assert_eq!(frames_of(response.into_body()).await.last(), Some(&None), "the answer seems to be complete");
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_made_to_its_end_is_not_taken_for_complete() {
        let pieces = [Ok(Bytes::from_static(b"a")), Err(io::Error::other("the database is gone"))];
        let failing = Response::new(Body::from_stream(stream::iter(pieces)));
        let response = send(failing, Answers::default().place().await.expect("a place"), GRACE);
        assert_eq!(frames_of(response.into_body()).await, [Some(1), None]);
    }
}
