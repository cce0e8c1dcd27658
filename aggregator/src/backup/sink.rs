//! Where a dump is written: a file, or a pipe from which pg_restore reads.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep};

/// How often a pipe is tried to be opened that nobody reads yet.
const POLL: Duration = Duration::from_millis(50);

/// A dump that is being written.
pub(super) struct Sink {
    output: Box<dyn AsyncWrite + Unpin + Send>,
    idle_timeout: Duration,
}

impl Sink {
    /// Opens a file, which is created, or a pipe, once somebody reads from it. If another program makes the pipe, it is
    /// waited for: a file in its place would be in the way of the pipe.
    ///
    /// # Errors
    /// If it cannot be opened, or nobody reads from it in time.
    pub async fn open(path: &Path, is_made_by_peer: bool, idle_timeout: Duration) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { output: Box::new(tokio::io::stdout()), idle_timeout });
        }
        let began = Instant::now();
        while is_made_by_peer && !tokio::fs::try_exists(path).await.unwrap_or(false) {
            ensure!(began.elapsed() < idle_timeout, "--to: {} does not exist after {idle_timeout:?}", path.display());
            sleep(POLL).await;
        }
        let opened = async {
            let is_pipe = tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.file_type().is_fifo());
            let output: Box<dyn AsyncWrite + Unpin + Send> = match is_pipe {
                true => Box::new(sender(path, idle_timeout).await?),
                false => Box::new(File::create(path).await?),
            };
            std::io::Result::Ok(output)
        };
        let output = opened.await.with_context(|| format!("--to: {}", path.display()))?;
        Ok(Self { output, idle_timeout })
    }

    /// Writes all of these bytes.
    ///
    /// # Errors
    /// If they cannot be written, or the reader takes none of them for too long.
    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        // In pieces, each of which may take as long: a slow reader is not one that has stopped.
        for piece in bytes.chunks(64 << 10) {
            let written = tokio::time::timeout(self.idle_timeout, self.output.write_all(piece)).await;
            written
                .with_context(|| format!("the reader of the dump has taken nothing for {:?}", self.idle_timeout))?
                .context("cannot write the dump")?;
        }
        Ok(())
    }

    /// Closes it, so that its reader finds the end.
    ///
    /// # Errors
    /// If what was written cannot be completed.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.output.flush().await.context("cannot write the dump")?;
        self.output.shutdown().await.context("cannot write the dump")
    }
}

/// Opens a pipe as soon as somebody reads from it. A plain open would wait for that in a thread that cannot be ended.
async fn sender(path: &Path, idle_timeout: Duration) -> std::io::Result<pipe::Sender> {
    let began = Instant::now();
    loop {
        match pipe::OpenOptions::new().open_sender(path) {
            Err(error) if error.raw_os_error() == Some(ENXIO) && began.elapsed() < idle_timeout => sleep(POLL).await,
            opened => return opened,
        }
    }
}

/// "No such device or address": nobody reads from the pipe.
const ENXIO: i32 = 6;
