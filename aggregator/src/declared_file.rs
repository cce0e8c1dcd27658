//! Files that declare what is in the store: what is in such a file is put into the store, at the start and when the file changes.
//! Nothing is removed by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use sluice_service::backoff::Backoff;
use tokio_util::sync::CancellationToken;

use crate::replica::consumer::pause;

/// How often a file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The first pause before what could not be put is put again.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// A kind of files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind<T> {
    /// What is in it, in the plural.
    pub name: &'static str,
    /// The largest file.
    pub max_bytes: u64,
    /// Reads one.
    pub parse: fn(&[u8]) -> Result<Vec<T>, String>,
    /// Shows whether it can be used.
    pub show: fn(bool),
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct DeclaredFile<T: 'static> {
    kind: &'static Kind<T>,
    path: PathBuf,
    content: Vec<u8>,
    items: Arc<[T]>,
}

impl<T> DeclaredFile<T> {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(kind: &'static Kind<T>, path: &Path) -> Result<Self, String> {
        let of_file = |error: String| format!("{}: {error}", path.display());
        let size = std::fs::metadata(path).map_err(|error| of_file(error.to_string()))?.len();
        if size > kind.max_bytes {
            return Err(of_file(format!("it is larger than {} bytes", kind.max_bytes)));
        }
        let content = std::fs::read(path).map_err(|error| of_file(error.to_string()))?;
        let items = (kind.parse)(&content).map_err(of_file)?.into();
        Ok(Self { kind, path: path.to_owned(), content, items })
    }

    /// Returns what is in it.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// Reads the file again if it has changed.
    fn changed(&self) -> Result<Option<Self>, String> {
        let changed = std::fs::read(&self.path).map_err(|error| error.to_string())? != self.content;
        if changed { Self::read(self.kind, &self.path).map(Some) } else { Ok(None) }
    }

    /// Puts all items with `put`, which returns whether it was done, and again whenever the file changes, until `stop`. A file
    /// that cannot be used any more changes nothing.
    pub async fn keep(mut self, put: impl Fn(Arc<[T]>) -> BoxFuture<'static, bool>, stop: &CancellationToken) {
        let kind = self.kind;
        (kind.show)(true);
        let mut unusable: Option<String> = None;
        let mut backoff = Backoff::new(FIRST_BACKOFF, LOOK_EVERY);
        loop {
            while !put(self.items.clone()).await {
                if !pause(backoff.next(), stop).await {
                    return;
                }
            }
            backoff.reset();
            self = loop {
                if !pause(LOOK_EVERY, stop).await {
                    return;
                }
                let problem = match self.changed() {
                    Ok(Some(changed)) => break changed,
                    Ok(None) => None,
                    Err(error) => Some(error),
                };
                if problem != unusable
                    && let Some(error) = &problem
                {
                    tracing::error!(error, "the file of {} cannot be used; they stay as they are", kind.name);
                }
                (kind.show)(problem.is_none());
                unusable = problem;
            };
            (kind.show)(true);
        }
    }
}

/// Reads YAML or JSON: an object with one list, each item of which has fields.
///
/// # Errors
/// What it is instead.
pub(crate) fn list(name: &str, content: &[u8]) -> Result<Vec<Value>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut document: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    match document.as_object_mut().map(|object| (object.remove(name), object.is_empty())) {
        Some((Some(Value::Array(list)), true)) => Ok(list),
        _ => Err(format!("it must have `{name}` with a list, and nothing else")),
    }
}
