//! What can go wrong with one resource. The category is at once the condition's reason, the
//! event's reason and the metric's label.

use thiserror::Error;

/// Why a resource could not be reconciled.
#[derive(Debug, Error)]
pub enum Error {
    /// The stored object does not fit the type: it was stored before its schema said so.
    #[error("cannot be read: {0}")]
    Unparsable(String),
    /// A field has a value that cannot work, which the schema did not catch.
    #[error("{field}: {message}")]
    Invalid {
        /// Its path, from `spec` or `metadata`.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// An object of the name we need belongs to somebody else.
    #[error("{kind} {name} exists and is not this resource's: rename or remove it")]
    NameTaken {
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// An object of an earlier resource of the same name is still being deleted.
    #[error("{kind} {name} of a deleted resource of this name is not gone yet")]
    Leftover {
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A Secret that the spec refers to is missing.
    #[error("{field}: there is no Secret {name} with the key {key}")]
    SecretMissing {
        /// The field that refers to it.
        field: String,
        /// The Secret.
        name: String,
        /// The key that is needed.
        key: String,
    },
    /// A Secret's content cannot work.
    #[error("the key {key} of Secret {name} {message}")]
    SecretInvalid {
        /// The Secret.
        name: String,
        /// The key in it.
        key: String,
        /// What is wrong with its value, without the value.
        message: String,
    },
    /// A volume cannot grow.
    #[error("the claim {claim} cannot grow to {size}: {message}")]
    VolumeRefused {
        /// The PersistentVolumeClaim.
        claim: String,
        /// The size asked for.
        size: String,
        /// What the API server says.
        message: String,
    },
    /// The API server did not answer all that was asked in time.
    #[error("the API server takes too long: gave up after {0:?}")]
    TimedOut(std::time::Duration),
    /// The API server did not do what was asked.
    #[error("cannot {action}: {source}")]
    Api {
        /// What was asked, in words.
        action: String,
        /// What it says.
        #[source]
        source: Box<kube::Error>,
    },
}

/// The result of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A field whose value cannot work.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// Turns a client's error into one that says what was being done.
    pub fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Api { action, source: Box::new(source) }
    }

    /// One of a few words: reason of conditions and events, label of metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unparsable(_) => "Unparsable",
            Self::Invalid { .. } => "Invalid",
            Self::NameTaken { .. } => "NameTaken",
            Self::Leftover { .. } => "WaitingForDeletion",
            Self::SecretMissing { .. } => "SecretMissing",
            Self::SecretInvalid { .. } => "SecretInvalid",
            Self::VolumeRefused { .. } => "VolumeRefused",
            Self::TimedOut(_) => "TimedOut",
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 403 => "Forbidden",
                kube::Error::Api(status) if status.code == 422 => "Rejected",
                kube::Error::Api(_) => "ApiRefused",
                _ => "ApiUnavailable",
            },
        }
    }

    /// Whether trying the same again can help. What cannot waits for a change of the resource or
    /// of what it refers to.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Unparsable(_) | Self::Invalid { .. })
    }

    /// Whether the resource itself went away meanwhile.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404))
    }
}
