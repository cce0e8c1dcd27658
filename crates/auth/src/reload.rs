//! A file of credentials that is read again when it changes.
//!
//! Its content is compared every few seconds, and not its time: a mounted Secret of Kubernetes changes by a link that
//! is replaced, which no notification about the file itself tells. A version that cannot be read or is wrong is
//! reported, and the last good one stays in force.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::metrics;

/// How often the file is read.
const EVERY: Duration = Duration::from_secs(2);
/// The largest file in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// What a setting that names a file of credentials has in common.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The name of the setting, for messages.
    pub(crate) setting: &'static str,
    /// The value of the label in metrics.
    pub(crate) label: &'static str,
    pub(crate) file: PathBuf,
}

/// What a file holds, as it was last good.
pub(crate) struct Reloaded<T> {
    source: Source,
    parse: fn(&[u8]) -> Result<T, String>,
    current: ArcSwap<T>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the file.
    ///
    /// # Errors
    /// The name of the setting and of the file, and the reason.
    pub(crate) fn open(source: Source, parse: fn(&[u8]) -> Result<T, String>) -> Result<Arc<Self>, String> {
        let (held, _) = Self::open_with_content(source, parse)?;
        Ok(held)
    }

    /// Reads the file, and reads it again from now on when it changes. It stops when what is returned is dropped.
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Those of [`Reloaded::open`].
    pub(crate) fn follow(source: Source, parse: fn(&[u8]) -> Result<T, String>) -> Result<Arc<Self>, String> {
        let (held, content) = Self::open_with_content(source, parse)?;
        ::metrics::gauge!(metrics::SOURCE_CURRENT.name, "source" => held.source.label).set(1.0);
        tokio::spawn(watch(Arc::downgrade(&held), content));
        Ok(held)
    }

    fn open_with_content(
        source: Source,
        parse: fn(&[u8]) -> Result<T, String>,
    ) -> Result<(Arc<Self>, Vec<u8>), String> {
        let explain = |reason: String| format!("{}: {}: {reason}", source.setting, source.file.display());
        let content = read(&source.file).map_err(explain)?;
        let first = parse(&content).map_err(explain)?;
        Ok((Arc::new(Self { parse, current: ArcSwap::from_pointee(first), source }), content))
    }

    /// Returns what is in force. Nothing is counted in memory that all threads share: each request calls this.
    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<T>> {
        self.current.load()
    }

    /// Puts a changed content in force if it is good.
    fn take(&self, read: &Result<Vec<u8>, String>) {
        let Source { setting, label, file } = &self.source;
        let parsed = read.as_ref().map_err(Clone::clone).and_then(|content| (self.parse)(content));
        let current = ::metrics::gauge!(metrics::SOURCE_CURRENT.name, "source" => *label);
        match parsed {
            Ok(good) => {
                self.current.store(Arc::new(good));
                current.set(1.0);
                tracing::info!(file = %file.display(), "{setting}: the file has changed and is in force");
            }
            Err(reason) => {
                current.set(0.0);
                ::metrics::counter!(metrics::SOURCE_FAILURES.name, "source" => *label).increment(1);
                tracing::error!(
                    file = %file.display(),
                    reason,
                    "{setting}: the file has changed and is wrong: what it held before stays in force"
                );
            }
        }
    }
}

/// Reads the file until nobody holds it any more.
async fn watch<T: Send + Sync + 'static>(held: Weak<Reloaded<T>>, content: Vec<u8>) {
    let mut last = Ok(content);
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(held) = held.upgrade() else { return };
        let file = held.source.file.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || read(&file)).await else { return };
        if now != last {
            held.take(&now);
            last = now;
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut content));
    match read {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(_) if content.len() as u64 > MAX_BYTES => Err(format!("has more than {MAX_BYTES} bytes")),
        Ok(_) => Ok(content),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn parse(content: &[u8]) -> Result<u32, String> {
        String::from_utf8_lossy(content).trim().parse().map_err(|_| "is no number".to_owned())
    }

    async fn becomes(held: &Reloaded<u32>, expected: u32) {
        let began = Instant::now();
        while **held.current() != expected {
            assert!(began.elapsed() < Duration::from_secs(60), "{} instead of {expected}", held.current());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_in_force_soon_and_a_wrong_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let source = || Source { setting: "--file", label: "file", file: file.clone() };
        let error = Reloaded::open(source(), parse).err().unwrap();
        assert!(error.starts_with(&format!("--file: {}: cannot be read", file.display())), "{error}");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(Reloaded::open(source(), parse).err().unwrap(), format!("--file: {}: is no number", file.display()));

        std::fs::write(&file, "1").unwrap();
        let held = Reloaded::follow(source(), parse).unwrap();
        assert_eq!(**held.current(), 1);
        // As Kubernetes does it: the file is a link to another.
        let (next, link) = (folder.path().join("next"), folder.path().join("link"));
        std::fs::write(&next, "2").unwrap();
        std::os::unix::fs::symlink(&next, &link).unwrap();
        std::fs::rename(&link, &file).unwrap();
        becomes(&held, 2).await;
        held.take(&Ok(b"x".to_vec()));
        held.take(&Err("cannot be read".to_owned()));
        assert_eq!(**held.current(), 2, "a wrong version");
        std::fs::write(&file, "3").unwrap();
        becomes(&held, 3).await;
    }
}
