//! The trace of a schedule: what happened, in order, with the simulated time of each line.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// A trace that is being recorded. Clones share their lines.
#[derive(Clone, Default)]
pub struct Trace {
    lines: Arc<Mutex<Lines>>,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    /// The time of the last line. What the programs log gets it too: they do not know the simulated time.
    last: Duration,
}

impl Trace {
    /// Adds a line.
    pub fn add(&self, time: Duration, actor: &str, text: &str) {
        let mut lines = self.lines();
        lines.last = time;
        lines.lines.push(format!("{:>7} ms  {actor:<12} {text}", time.as_millis()));
    }

    /// Returns the lines, and leaves none.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines().lines)
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Writes what the programs log into the trace.
impl<'a> MakeWriter<'a> for Trace {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { trace: self.clone(), text: Vec::new() }
    }
}

/// One line of a program's log.
pub struct LogLine {
    trace: Trace,
    text: Vec<u8>,
}

impl io::Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let last = self.trace.lines().last;
        self.trace.add(last, "logged", String::from_utf8_lossy(&self.text).trim());
    }
}
