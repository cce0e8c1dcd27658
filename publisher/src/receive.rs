//! Reading a body within its bounds: size, time, and what may be in hand altogether.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use sluice_service::problem::Problem;

use crate::publisher::Reservation;

/// What is allocated at once on the word of a `Content-Length`.
const TRUSTED_BYTES: usize = 64 << 10;

/// Reads the whole body. Refuses it as soon as it is, or says it will be, larger than `most`
/// bytes (413), is not complete within `patience` (408), or ends early (400).
pub(crate) async fn body<B>(
    headers: &HeaderMap,
    body: B,
    most: usize,
    patience: Duration,
    reservation: &mut Reservation,
) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large(most));
    }
    let mut reading = pin!(collect(body, announced.unwrap_or(0).min(TRUSTED_BYTES), most, reservation));
    // Most bodies are here with their headers, and need no timer.
    match futures::poll!(reading.as_mut()) {
        Poll::Ready(read) => read,
        Poll::Pending => tokio::time::timeout(patience, reading).await.unwrap_or_else(|_| Err(too_slow(patience))),
    }
}

async fn collect<B>(mut body: B, expected: usize, most: usize, reservation: &mut Reservation) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    // A small body comes in one piece, which is kept as it is.
    let (mut one, mut many) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        // What is no data is trailers, which say nothing of events.
        let Ok(chunk) = frame.map_err(|_| cut_off())?.into_data() else { continue };
        if chunk.len() > most - one.len() - many.len() {
            return Err(too_large(most));
        }
        reservation.grow(chunk.len())?;
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

fn too_large(most: usize) -> Problem {
    let detail = format!("the body is larger than {most} bytes; send fewer events in a request");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

fn too_slow(patience: Duration) -> Problem {
    let detail = format!("the body did not arrive within {patience:?}");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
}

fn cut_off() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed_json", "the body ends before its announced end")
}
