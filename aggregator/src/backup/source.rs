//! Where the dump comes from: a file, or a pipe with the exit status of pg_dump in a file beside it.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep};

/// How often a pipe is looked at that nobody writes to.
const POLL: Duration = Duration::from_millis(50);

/// A dump that is being read.
pub(super) struct Source {
    input: Box<dyn AsyncRead + Unpin + Send>,
    /// Whether nothing to read can also mean that nobody writes yet.
    is_pipe: bool,
    exit_status: Option<PathBuf>,
    idle_timeout: Duration,
}

impl Source {
    /// Opens the dump. A pipe is waited for until it exists, and opened without waiting for its writer.
    ///
    /// # Errors
    /// If it cannot be opened, or does not exist in time.
    pub async fn open(path: &Path, exit_status: Option<&Path>, idle_timeout: Duration) -> anyhow::Result<Self> {
        let path = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
        let began = Instant::now();
        let kind = loop {
            match tokio::fs::metadata(path).await {
                Ok(metadata) => break metadata.file_type(),
                Err(_) if began.elapsed() < idle_timeout => sleep(POLL).await,
                Err(error) => return Err(error).with_context(|| format!("--from: {}", path.display())),
            }
        };
        let is_pipe = kind.is_fifo();
        ensure!(
            !is_pipe || exit_status.is_some(),
            "--exit-status is needed, because the end of a pipe does not say whether the dump is whole"
        );
        let opened = async {
            let input: Box<dyn AsyncRead + Unpin + Send> = match is_pipe {
                true => Box::new(pipe::OpenOptions::new().open_receiver(path)?),
                false => Box::new(File::open(path).await?),
            };
            std::io::Result::Ok(input)
        };
        let input = opened.await.with_context(|| format!("--from: {}", path.display()))?;
        Ok(Self { input, is_pipe, exit_status: exit_status.map(Path::to_owned), idle_timeout })
    }

    /// Reads into the buffer, and returns the number of bytes; 0 at the end of a dump that has ended well.
    ///
    /// # Errors
    /// If it cannot be read, has not ended well, or nothing comes for too long.
    pub async fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        let idle = Instant::now();
        loop {
            // Looked at before the pipe: what was written before it appeared can then be read.
            let status = self.status().await?;
            let left = self.idle_timeout.saturating_sub(idle.elapsed());
            let Ok(read) = tokio::time::timeout(left, self.input.read(buffer)).await else {
                bail!("nothing of the dump has come for {:?}", self.idle_timeout);
            };
            let read = read.context("cannot read the dump")?;
            if read > 0 {
                return Ok(read);
            }
            match status {
                Some(0) => return Ok(0),
                Some(other) => bail!("pg_dump has ended with {other}: nothing is stored"),
                None if self.exit_status.is_none() && !self.is_pipe => return Ok(0),
                None if left.is_zero() => {
                    bail!("the exit status of pg_dump has not come within {:?}: nothing is stored", self.idle_timeout)
                }
                None => sleep(POLL).await,
            }
        }
    }

    /// Returns the exit status of pg_dump, if it has ended.
    async fn status(&self) -> anyhow::Result<Option<i32>> {
        let Some(file) = &self.exit_status else { return Ok(None) };
        match tokio::fs::read_to_string(file).await {
            // It may be read while it is being written.
            Ok(text) if !text.ends_with('\n') => Ok(None),
            Ok(text) => {
                let status = text.trim().parse();
                Ok(Some(status.with_context(|| format!("{} has no exit status: {text:?}", file.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("--exit-status: {}", file.display())),
        }
    }
}
