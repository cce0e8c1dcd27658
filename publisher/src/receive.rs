//! Reads a body within its bounds: its size, its time, and the bytes of all bodies together.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
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
    let mut reading = pin!(collect(body, announced.unwrap_or(0).min(MAX_PREALLOCATED), max, reservation));
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

async fn collect<B>(mut body: B, expected: usize, max: usize, reservation: &mut Reservation) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    // A small body comes in one piece, which is returned without copying it.
    let (mut one, mut many) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        // A frame that is not data is trailers, which are not part of the body.
        let Ok(chunk) = frame.map_err(|_| body_ends_early())?.into_data() else { continue };
        if chunk.len() > max - one.len() - many.len() {
            return Err(body_too_large(max));
        }
        reservation.grow(chunk.len()).await?;
        if one.is_empty() && many.is_empty() {
            one = chunk;
            continue;
        }
        if many.is_empty() {
            many.reserve(expected);
            many.extend_from_slice(&std::mem::take(&mut one));
        }
        many.extend_from_slice(&chunk);
    }
    Ok(if many.is_empty() { one } else { many.freeze() })
}
