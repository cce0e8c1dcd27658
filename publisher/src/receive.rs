//! Reads a body within its bounds: its size, its time, and the bytes of all bodies together.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use sluice_service::problem::Problem;

use crate::admission::Reservation;
use crate::problems::{body_ends_early, body_timeout, body_too_large, body_too_slow};

/// Bytes that are allocated at once because of a `Content-Length`, at most: a client can announce a
/// large body without sending it.
const MAX_PREALLOCATED: usize = 64 << 10;

/// Reads the whole body.
///
/// # Errors
/// `body_too_large` as soon as the body is, or is announced to be, larger than `max` bytes;
/// `body_timeout` when it is not complete within `timeout`; `malformed_json` when it ends early;
/// `queue_full` when the reservation cannot grow, or when the body is slow and others need its bytes.
pub(crate) async fn body<B>(
    headers: &HeaderMap,
    body: B,
    max: usize,
    timeout: Duration,
    reservation: &mut Reservation,
) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max) {
        return Err(body_too_large(max));
    }
    let budget = reservation.budget();
    let mut reading = pin!(collect(body, announced, max, reservation));
    // Most bodies have arrived together with their headers, and need no timer.
    match futures::poll!(reading.as_mut()) {
        Poll::Ready(read) => read,
        Poll::Pending => {
            let arriving = budget.arriving();
            tokio::select! {
                biased;
                read = tokio::time::timeout(timeout, reading) => read.unwrap_or_else(|_| Err(body_timeout(timeout))),
                () = arriving.refused() => Err(body_too_slow()),
            }
        }
    }
}

/// Reads frames until the end. What is reserved are the bytes of the buffer, which are more than those that arrived.
async fn collect<B>(
    mut body: B,
    announced: Option<usize>,
    max: usize,
    reservation: &mut Reservation,
) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    // A small body comes in one piece, which is returned without copying it.
    let (mut one, mut many) = (Bytes::new(), Vec::new());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        // A frame that is not data is trailers, which are not part of the body.
        let Ok(chunk) = frame.map_err(|_| body_ends_early())?.into_data() else { continue };
        let length = one.len() + many.len() + chunk.len();
        if length > max {
            return Err(body_too_large(max));
        }
        if one.is_empty() && many.is_empty() {
            reservation.grow(chunk.len()).await?;
            one = chunk;
            continue;
        }
        if length > many.capacity() {
            let capacity = length.max(next_capacity(many.capacity(), announced).min(announced.unwrap_or(max)));
            reservation.grow(capacity - many.capacity().max(one.len())).await?;
            many.reserve_exact(capacity - many.len());
            many.extend_from_slice(&std::mem::take(&mut one));
        }
        many.extend_from_slice(&chunk);
    }
    Ok(if many.is_empty() { one } else { many.into() })
}

/// Returns how large a buffer becomes that is too small: at first what is announced, if that is little.
fn next_capacity(capacity: usize, announced: Option<usize>) -> usize {
    if capacity == 0 { announced.unwrap_or(0).min(MAX_PREALLOCATED) } else { 2 * capacity }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use futures::{StreamExt, stream};

    use super::*;
    use crate::body_budget::BodyBudget;

    const MAX: usize = 1 << 20;

    /// Receives a body in pieces of these lengths, with a budget of `budget` bytes, and returns how many of them are
    /// left before its end is received.
    async fn left(announced: Option<usize>, pieces: &[usize], budget: usize) -> Option<usize> {
        let budget = Arc::new(BodyBudget::new(budget as u64));
        let mut reservation = Reservation::new(budget.clone());
        let pieces: Vec<_> = pieces.iter().map(|&length| Ok::<_, std::io::Error>(vec![b'x'; length])).collect();
        let endless = Body::from_stream(stream::iter(pieces).chain(stream::pending()));
        let reading = collect(endless, announced, MAX, &mut reservation);
        let received = tokio::time::timeout(Duration::from_millis(50), reading).await;
        received.is_err().then(|| budget.free())
    }

    #[tokio::test]
    async fn the_buffer_of_a_body_is_reserved_and_not_only_what_has_arrived() {
        // What is announced, and what a buffer has that was doubled.
        assert_eq!(left(Some(50_000), &[1_000, 1_000], MAX).await, Some(MAX - 50_000));
        assert_eq!(left(Some(900_000), &[40_000, 40_000], MAX).await, Some(MAX - 80_000));
        assert_eq!(left(Some(900_000), &[40_000, 40_000, 1], MAX).await, Some(MAX - 160_000));
        assert_eq!(left(None, &[1_000, 1_000, 1], MAX).await, Some(MAX - 4_000));
        // Not more than may come.
        assert_eq!(left(Some(100_000), &[40_000, 40_000, 1], MAX).await, Some(MAX - 100_000));
        assert_eq!(left(None, &[600_000, 1, 1], MAX).await, Some(0));
        // A body that came in one piece is not copied.
        assert_eq!(left(Some(900_000), &[40_000], MAX).await, Some(MAX - 40_000));
        assert_eq!(left(Some(50_000), &[1_000, 1_000], 49_999).await, None, "a buffer beyond the budget");
    }
}
