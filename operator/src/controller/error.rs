//! The errors of reconciling one resource. Each has a [`Reason`], which is at once the reason of the
//! condition, the reason of the event and the label of the metric.

use thiserror::Error;

use super::reason::Reason;

/// Why a resource could not be reconciled.
#[derive(Debug, Error)]
pub enum Error {
    /// The stored object does not match its type. It was stored under an older schema.
    #[error("the resource cannot be read: {0}")]
    Unparsable(String),
    /// A field has an invalid value that the schema cannot refuse.
    #[error("{field}: {message}")]
    Invalid {
        /// Its path, from `spec` or `metadata`.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// An object with a name that is needed belongs to somebody else.
    #[error("{kind} {name} exists and does not belong to this resource: rename or delete one of the two")]
    NameTaken {
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// An object must be deleted first: it is being deleted, or belongs to an earlier resource of the same name.
    #[error("waiting for the deletion of {kind} {name}, which has begun or which belongs to a deleted resource")]
    Leftover {
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A Secret to which the spec refers is missing.
    #[error("{field}: there is no Secret {name} with the key {key}")]
    SecretMissing {
        /// The field that refers to it.
        field: String,
        /// The Secret.
        name: String,
        /// The key that is needed.
        key: String,
    },
    /// The content of a Secret cannot be used.
    #[error("the key {key} of Secret {name} {message}")]
    SecretInvalid {
        /// The Secret.
        name: String,
        /// The key in it.
        key: String,
        /// What is wrong with its value. It does not contain the value.
        message: String,
    },
    /// A certificate of a Secret has ended.
    #[error("the certificate in the key {key} of Secret {name} ended at {end}: renew it")]
    CertificateExpired {
        /// The Secret.
        name: String,
        /// The key in it.
        key: String,
        /// When it ended.
        end: jiff::Timestamp,
    },
    /// The cluster has no such kind of CloudNativePG.
    #[error("spec.postgres.cloudNativePG: the cluster has no {kind} of postgresql.cnpg.io/v1: install CloudNativePG")]
    CloudNativePgMissing {
        /// The kind, in the plural.
        kind: String,
    },
    /// A volume cannot grow.
    #[error("PersistentVolumeClaim {pvc} cannot have the size {size}: {message}")]
    VolumeRefused {
        /// The PersistentVolumeClaim.
        pvc: String,
        /// The requested size.
        size: String,
        /// The message of the API server.
        message: String,
    },
    /// The API server did not respond to all requests of a reconcile in time.
    #[error("the API server did not answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// The API server refused a request, or did not respond to it.
    #[error("cannot {action}: {source}")]
    Api {
        /// The request in words, as in "cannot {action}".
        action: String,
        /// The error of the client.
        #[source]
        source: Box<kube::Error>,
    },
}

/// The result of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates the error of a field with an invalid value.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// Returns a function that turns an error of the client into one that names the request.
    pub fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Api { action, source: Box::new(source) }
    }

    /// Says of a missing Secret that it needs these labels too, if the operator reads no others.
    pub fn of_secrets_with(self, labels: Option<&str>) -> Self {
        match (self, labels) {
            (Self::SecretMissing { field, name, key }, Some(labels)) => {
                Self::SecretMissing { field, name, key: format!("{key} and the labels {labels}") }
            }
            (error, _) => error,
        }
    }

    /// Returns the reason of this error.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unparsable(_) => Reason::Unparsable,
            Self::Invalid { .. } => Reason::Invalid,
            Self::NameTaken { .. } => Reason::NameTaken,
            Self::Leftover { .. } => Reason::WaitingForDeletion,
            Self::SecretMissing { .. } => Reason::SecretMissing,
            Self::SecretInvalid { .. } => Reason::SecretInvalid,
            Self::CertificateExpired { .. } => Reason::CertificateExpired,
            Self::CloudNativePgMissing { .. } => Reason::CloudNativePGMissing,
            Self::VolumeRefused { .. } => Reason::VolumeRefused,
            Self::TimedOut(_) => Reason::TimedOut,
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 403 => Reason::Forbidden,
                kube::Error::Api(status) if status.code == 422 => Reason::Rejected,
                kube::Error::Api(status) if is_misfit(status) => Reason::Rejected,
                kube::Error::Api(_) => Reason::ApiRefused,
                _ => Reason::ApiUnavailable,
            },
        }
    }

    /// Whether a retry can succeed. Otherwise the resource must change first.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Unparsable(_) | Self::Invalid { .. })
    }

    /// Whether the error is about one object alone, so that others can be applied nevertheless. Otherwise the API server
    /// does not work as it should.
    pub fn is_of_one_object(&self) -> bool {
        match self {
            Self::Api { source, .. } => {
                let of_object = |code| (400..500).contains(&code) && code != 429;
                matches!(source.as_ref(), kube::Error::Api(status) if of_object(status.code) || is_misfit(status))
            }
            Self::TimedOut(_) => false,
            _ => true,
        }
    }

    /// Whether an object, usually the resource itself, was deleted during the reconcile.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404))
    }
}

/// Whether an object that is applied has a field that its definition lacks, or a field of another type, such as one that
/// an older version of another operator does not know. The API server calls that an internal error (500).
fn is_misfit(status: &kube::core::Status) -> bool {
    status.message.starts_with("failed to create typed patch object")
}
