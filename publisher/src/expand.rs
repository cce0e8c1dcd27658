//! Expands a body that is compressed, within the same bounds that other bodies have.
//!
//! The bytes of the expanded body are reserved before they are allocated. The compressed body stays reserved until all
//! of it is expanded. What the decoders need besides (zstd: a window of up to 8 MiB) is bounded by the number of bodies
//! that are expanded at the same time.

use std::io::{ErrorKind, Read};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use sluice_service::problem::Problem;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::admission::Reservation;
use crate::problems::{expanded_body_too_large, expanding_failed, malformed_encoding, queue_full};

/// The largest window that a zstd frame of a content coding may have, as a power of two: RFC 9659 allows 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;
/// JSON is usually compressed to less than a fifth of its size: with this buffer few bodies need a second one.
const USUAL_RATIO: usize = 8;
/// The smallest buffer, in bytes.
const MIN_BUFFER: usize = 4 << 10;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Expands bodies on threads for blocking work, as many at a time as there are processors.
pub(crate) struct Expander {
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl Expander {
    /// Returns an expander whose bodies wait for their turn for at most `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        let turns = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { turns: Arc::new(Semaphore::new(turns)), patience }
    }

    /// Expands a body, whose bytes are reserved, to at most `max` bytes.
    ///
    /// # Errors
    /// `body_too_large` when there are more than `max` bytes, or more than the reservation can ever have;
    /// `malformed_encoding`; `queue_full` when the reservation cannot grow at the moment, or too many bodies wait.
    pub(crate) async fn expand(
        &self,
        coding: Coding,
        body: Bytes,
        max: usize,
        mut reservation: Reservation,
    ) -> Result<(Bytes, Reservation), Problem> {
        let turn = tokio::time::timeout(self.patience, self.turns.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or_else(queue_full)?;
        let runtime = Handle::current();
        let expanding = tokio::task::spawn_blocking(move || {
            // Both bodies must fit in what there is: otherwise the client would repeat the request for ever.
            let max = max.min(reservation.max_growth());
            let expanded = expand(coding, &body, max, |bytes| runtime.block_on(reservation.grow(bytes)));
            // Also when the client has left meanwhile.
            drop(turn);
            let compressed = body.len();
            drop(body);
            reservation.shrink(compressed);
            expanded.map(|expanded| (expanded.into(), reservation))
        });
        expanding.await.unwrap_or_else(|error| Err(expanding_failed(&error)))
    }
}

/// Expands `body` to at most `max` bytes; `reserve` is called before bytes are allocated.
fn expand(
    coding: Coding,
    body: &[u8],
    max: usize,
    reserve: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Vec<u8>, Problem> {
    let first = body.len().saturating_mul(USUAL_RATIO).max(MIN_BUFFER);
    match coding {
        Coding::Gzip => read(MultiGzDecoder::new(body), coding, first, max, reserve),
        Coding::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(decoder)
            });
            read(decoder.map_err(|error| expanding_failed(&error))?, coding, first, max, reserve)
        }
    }
}

/// Reads to the end, into a buffer of `first` bytes that is doubled when it is full.
fn read(
    mut source: impl Read,
    coding: Coding,
    first: usize,
    max: usize,
    mut reserve: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Vec<u8>, Problem> {
    let (mut buffer, mut filled) = (Vec::new(), 0);
    // A place for the byte that would be one too many.
    let mut beyond = [0];
    loop {
        if filled == buffer.len() && filled < max {
            let length = first.max(2 * filled).min(max);
            reserve(length - filled)?;
            buffer.reserve_exact(length - filled);
            buffer.resize(length, 0);
        }
        let room = if filled < max { &mut buffer[filled..] } else { &mut beyond };
        match source.read(room) {
            Ok(0) => break,
            Ok(_) if filled == max => return Err(expanded_body_too_large(max)),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(malformed_encoding(coding.name(), "it ends early"));
            }
            Err(error) => return Err(malformed_encoding(coding.name(), error)),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;
    use sluice_service::code::Code;

    use super::*;
    use crate::body_budget::BodyBudget;

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

    fn compressed(coding: Coding, text: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
                encoder.include_checksum(true).unwrap();
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    /// Expands, and returns also how many bytes were reserved.
    fn expanded(coding: Coding, body: &[u8], max: usize) -> (Result<Vec<u8>, Problem>, usize) {
        let mut reserved = 0;
        let expanded = expand(coding, body, max, |bytes| {
            reserved += bytes;
            Ok(())
        });
        (expanded, reserved)
    }

    /// Text that is not repetitive.
    fn text(bytes: usize) -> Vec<u8> {
        (0_u64..).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string().into_bytes()).take(bytes).collect()
    }

    #[test]
    fn a_body_of_any_size_up_to_the_limit_is_expanded() {
        for coding in BOTH {
            for size in [0, 1, MIN_BUFFER - 1, MIN_BUFFER, MIN_BUFFER + 1, 300_000] {
                let text = text(size);
                let body = compressed(coding, &text);
                for max in [size.max(1), size + 1, 1 << 20] {
                    assert_eq!(expanded(coding, &body, max).0.unwrap(), text, "{coding:?} {size} {max}");
                }
            }
            let two = [compressed(coding, b"[1,"), compressed(coding, b"2]")].concat();
            assert_eq!(expanded(coding, &two, 100).0.unwrap(), b"[1,2]", "a stream may have several parts");
        }
    }

    #[test]
    fn a_bomb_is_refused_and_no_more_than_the_limit_is_reserved() {
        for coding in BOTH {
            let bomb = compressed(coding, &vec![b' '; 8 << 20]);
            assert!(bomb.len() < 64 << 10, "{coding:?}: {}", bomb.len());
            let (refused, reserved) = expanded(coding, &bomb, 1 << 20);
            assert_eq!(refused.unwrap_err().code(), Code::BodyTooLarge, "{coding:?}");
            assert_eq!(reserved, 1 << 20);
            let exact = compressed(coding, &text(5_001));
            assert_eq!(expanded(coding, &exact, 5_000).0.unwrap_err().code(), Code::BodyTooLarge, "{coding:?}");
        }
    }

    #[test]
    fn every_truncated_stream_is_refused_and_so_is_every_changed_byte_of_the_content() {
        for coding in BOTH {
            let body = compressed(coding, &text(2_000));
            for end in 1..body.len() {
                let problem = expanded(coding, &body[..end], 1 << 20).0.unwrap_err();
                assert_eq!(problem.code(), Code::MalformedEncoding, "{coding:?} {end}");
                assert!(problem.detail().contains("it ends early"), "{coding:?} {end}: {}", problem.detail());
            }
            // The head of gzip has a time and other bytes without a meaning for the content.
            for at in 20..body.len() {
                let mut changed = body.clone();
                changed[at] ^= 0x10;
                let (result, _) = expanded(coding, &changed, 1 << 20);
                assert_eq!(result.unwrap_err().code(), Code::MalformedEncoding, "{coding:?} {at}");
            }
            let (result, _) = expanded(coding, b"{\"id\":\"1\",\"payload\":1}", 100);
            assert_eq!(result.unwrap_err().code(), Code::MalformedEncoding, "{coding:?}: plain JSON");
        }
    }

    #[test]
    fn a_window_that_needs_much_memory_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(24).unwrap();
        // Without a known size the window is that of the setting.
        encoder.write_all(&text(1_000)).unwrap();
        encoder.flush().unwrap();
        let problem = expanded(Coding::Zstd, &encoder.finish().unwrap(), 1 << 20).0.unwrap_err();
        assert_eq!(problem.code(), Code::MalformedEncoding, "{}", problem.detail());
        assert!(problem.detail().contains("memory"), "{}", problem.detail());
    }

    #[tokio::test]
    async fn both_sizes_are_reserved_until_the_body_is_expanded_and_then_only_that_of_the_buffer() {
        let expander = Expander::new(Duration::from_secs(10));
        let body = Bytes::from(compressed(Coding::Gzip, &text(30_000)));
        let size = body.len();
        let reserved = async |total: usize| {
            let budget = Arc::new(BodyBudget::new(total as u64));
            let mut reservation = Reservation::new(budget.clone());
            reservation.grow(size).await?;
            let (expanded, reservation) = expander.expand(Coding::Gzip, body.clone(), 30_000, reservation).await?;
            assert_eq!(expanded, text(30_000));
            assert_eq!(budget.free(), total - 30_000, "the compressed body is free again");
            drop(reservation);
            Ok::<_, Problem>(budget.free())
        };
        assert_eq!(reserved(size + 30_000).await.unwrap(), size + 30_000);
        let problem = reserved(size + 29_999).await.unwrap_err();
        assert_eq!(problem.code(), Code::BodyTooLarge, "it would never fit");
    }

    #[tokio::test]
    async fn a_body_that_must_wait_too_long_for_its_turn_is_refused() {
        let expander = Expander { turns: Arc::new(Semaphore::new(0)), patience: Duration::from_millis(10) };
        let reservation = Reservation::new(Arc::new(BodyBudget::new(1_000)));
        let expanded = expander.expand(Coding::Zstd, Bytes::new(), 1_000, reservation).await;
        assert_eq!(expanded.err().map(|problem| problem.code()), Some(Code::QueueFull));
    }
}
