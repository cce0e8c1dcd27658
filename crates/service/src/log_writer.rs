//! Writes log lines to standard error on a thread of its own, so that a reader of standard error that is slow, or has
//! stopped reading, never blocks a thread that serves requests. Lines that do not fit into the queue are lost and
//! counted. (The crate `tracing-appender` does the same, and brings a library of time zones for files that rotate.)

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// The maximum number of lines in the queue.
const MAX_LINES: usize = 1_024;
/// The maximum number of bytes of a line; the rest of it is cut off.
const MAX_LINE_BYTES: usize = 16 << 10;
/// How long the end of a program waits until its last lines are written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The queue of the process's log.
static QUEUE: OnceLock<SyncSender<Message>> = OnceLock::new();

enum Message {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// Where log lines go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogWriter {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    /// Whether line breaks inside a line are escaped, so that no value in it can look like another line.
    escape: bool,
}

impl LogWriter {
    /// Starts the thread that writes to standard error.
    pub(crate) fn to_stderr(escape: bool) -> Self {
        let writer = Self::to(io::stderr(), escape);
        let _ = QUEUE.set(writer.queue.clone());
        writer
    }

    fn to(output: impl Write + Send + 'static, escape: bool) -> Self {
        let (queue, lines) = sync_channel(MAX_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let reported = lost.clone();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || write(&lines, output, &reported));
        if let Err(error) = thread {
            eprintln!("cannot start the thread that writes the log: {error}");
        }
        Self { queue, lost, escape }
    }
}

/// Writes lines until the process ends.
fn write(lines: &Receiver<Message>, mut output: impl Write, lost: &AtomicU64) {
    let mut reported = 0;
    while let Ok(message) = lines.recv() {
        match message {
            // There is nowhere to report that standard error is closed.
            Message::Line(line) => drop(output.write_all(&line)),
            Message::Flush(done) => drop(done.try_send(())),
        }
        let now = lost.load(Ordering::Relaxed);
        if now > reported {
            let lines = now - reported;
            metrics::counter!(crate::metrics::LOG_LINES_LOST.name).increment(lines);
            tracing::warn!(lines, "log lines were lost: standard error was not read in time");
            reported = now;
        }
    }
}

/// Waits until the lines logged so far are written, for a second at most.
pub(crate) fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    let (done, written) = sync_channel(1);
    let mut message = Message::Flush(done);
    while Instant::now() < deadline {
        match queue.try_send(message) {
            Ok(()) => {
                let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
                return;
            }
            Err(TrySendError::Full(full)) => message = full,
            Err(TrySendError::Disconnected(_)) => return,
        }
        thread::sleep(Duration::from_millis(10));
    }
}

impl Write for LogWriter {
    /// Takes a whole line: the formatter writes each of them in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = if self.escape { one_line(line) } else { Cow::Borrowed(line) };
        let mut text = text.into_owned();
        if text.len() > MAX_LINE_BYTES {
            text.truncate(MAX_LINE_BYTES);
            text.push(b'\n');
        }
        if self.queue.try_send(Message::Line(text)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// Escapes all line breaks but the last.
fn one_line(line: &[u8]) -> Cow<'_, [u8]> {
    let (content, end) = match line.split_last() {
        Some((b'\n', content)) => (content, &b"\n"[..]),
        _ => (line, &b""[..]),
    };
    if !content.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(line);
    }
    let mut escaped = Vec::with_capacity(line.len() + 8);
    for byte in content {
        match byte {
            b'\n' => escaped.extend_from_slice(b"\\n"),
            b'\r' => escaped.extend_from_slice(b"\\r"),
            other => escaped.push(*other),
        }
    }
    escaped.extend_from_slice(end);
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// An output that writes nothing until it is released, as a pipe that nobody reads.
    struct Blocked {
        released: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.released.recv();
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_nobody_reads_blocks_no_writer_and_what_is_lost_is_counted() {
        let (release, released) = channel();
        let (written, lines) = channel();
        let mut writer = LogWriter::to(Blocked { released, written }, false);
        // Were a write to wait for the output, this would never end.
        for number in 0..MAX_LINES + 500 {
            writer.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let lost = writer.lost.load(Ordering::Relaxed) as usize;
        assert!((499..=500).contains(&lost), "{lost}");
        drop(release);
        for number in 0..MAX_LINES {
            let line = lines.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!(line, format!("{number}\n").into_bytes());
        }
    }

    #[test]
    fn a_line_break_in_a_value_does_not_begin_a_line() {
        assert_eq!(one_line(b"a topic=b\nINFO forged\r\n"), &b"a topic=b\\nINFO forged\\r\n"[..]);
        assert_eq!(one_line(b"plain\n"), &b"plain\n"[..]);
    }

    #[test]
    fn a_long_line_is_cut_off() {
        let (release, released) = channel();
        let (written, lines) = channel();
        let mut writer = LogWriter::to(Blocked { released, written }, false);
        writer.write_all(&vec![b'x'; 1 << 20]).unwrap();
        drop(release);
        assert_eq!(lines.recv_timeout(Duration::from_secs(20)).unwrap().len(), MAX_LINE_BYTES + 1);
    }
}
