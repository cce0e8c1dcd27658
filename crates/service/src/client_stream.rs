//! A client's stream with a bound: it fails when the client stops reading its response.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::request_log;
use crate::transport::Transport;

/// Where the status is in a response: after `HTTP/1.1 `.
const STATUS: Range<usize> = 9..12;

/// A stream whose writes fail when the client reads nothing for longer than `timeout`.
pub(crate) struct ClientStream {
    stream: Transport,
    timeout: Duration,
    /// Runs while a write cannot proceed.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Whether whole responses are flushed, so that what follows is the beginning of a response. hyper also flushes
    /// between the pieces of one that is sent while it is produced.
    between_responses: bool,
    /// The status of hyper's own response to a head that it refuses. The response has no body and no id, so it is not
    /// sent.
    refused: Option<StatusCode>,
}

impl ClientStream {
    pub(crate) fn new(stream: Transport, timeout: Duration) -> Self {
        Self { stream, timeout, stalled: None, between_responses: true, refused: None }
    }

    /// Returns the stream, and the status of the refusal that the client is still to be sent.
    pub(crate) fn into_inner(self) -> (Transport, Option<StatusCode>) {
        (self.stream, self.refused)
    }

    /// Returns whether these bytes are a refusal by hyper itself, which is not to be sent. The responses of handlers
    /// have an id.
    fn is_refusal(&mut self, bytes: &[u8]) -> bool {
        if self.refused.is_some() {
            return true;
        }
        if !std::mem::replace(&mut self.between_responses, false) || bytes.get(STATUS.start) != Some(&b'4') {
            return false;
        }
        let id = request_log::HEADER;
        let has_id = bytes.windows(id.as_str().len()).any(|name| name.eq_ignore_ascii_case(id.as_str().as_bytes()));
        if !has_id {
            self.refused = bytes.get(STATUS).and_then(|status| StatusCode::from_bytes(status).ok());
        }
        self.refused.is_some()
    }

    fn stream(&mut self) -> Pin<&mut Transport> {
        Pin::new(&mut self.stream)
    }

    /// Starts the timeout at the first write or flush that cannot proceed, and stops it at the next one that
    /// completes. Returns an error of the kind `TimedOut` when the timeout ends before that.
    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.timeout)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_refusal(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = this.stream().poll_write(context, bytes);
        this.watch(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_refusal(pieces.first().map_or(&[], |first| first)) {
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        let polled = this.stream().poll_write_vectored(context, pieces);
        this.watch(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = this.stream().poll_flush(context);
        this.between_responses |= polled.is_ready() && !this.stream.is_busy();
        this.watch(context, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_shutdown(context)
    }
}
