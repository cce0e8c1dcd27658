//! All reasons that the operator reports, as one closed set. A reason is at once the `reason` of a
//! condition, the `reason` of an event and, for errors, the label `result` of
//! `sluice_operator_reconciles_total`. `docs/operations.md` explains each one; a test compares the
//! two in both directions.

use std::fmt;

/// Declares the enum, the list of its variants and their names, so that none can be forgotten.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Why a condition has its status. The name of a variant is the text in the cluster.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])* $name,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason as it is written in conditions, events and labels.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// All components are ready.
    AllReady,
    /// All replicas of a component are ready.
    Ready,
    /// Nothing is left to be changed.
    Complete,
    /// No replica is requested.
    ScaledToZero,
    /// An external server, which aggregators use.
    External,
    /// An external server that nothing uses, because no aggregator is requested.
    NotUsed,
    /// `spec.paused` is true.
    Paused,
    /// `spec.hibernated` is true and no pod runs.
    Hibernated,
    /// `spec.hibernated` is true and pods are being stopped.
    Hibernating,
    /// A HorizontalPodAutoscaler scales the resource, so its own autoscaling has no effect.
    AutoscalingConflict,
    /// The StatefulSet or Deployment of a component has not been created yet.
    Missing,
    /// Pods are not ready yet.
    Starting,
    /// Pods are being replaced.
    RollingOut,
    /// More pods exist than are requested.
    ScalingDown,
    /// Publishers are updated after the aggregators.
    WaitingForAggregators,
    /// Servers restart after those of another resource.
    WaitingForTurn,
    /// Aggregators get an older image after the publishers.
    WaitingForPublishers,
    /// Aggregators start when PostgreSQL can be used.
    WaitingForPostgres,
    /// No aggregator is ready, so it is not known whether an external server can be used.
    NotConfirmed,
    /// An object must be deleted before the operator can continue.
    WaitingForDeletion,
    /// What is confirmed is on a second server too.
    SynchronousStandby,
    /// A failover loses what the standby had not received.
    AsyncStandby,
    /// One pod with one volume holds the data.
    SingleNode,
    /// The operator does not know the standbys of an external server.
    TopologyUnknown,
    /// The newest backup is as recent as its schedule asks for.
    BackupRecent,
    /// A backup should have been made more than an hour ago.
    BackupOverdue,
    /// The last backup failed.
    BackupFailed,
    /// No backup has been made yet, and none is overdue.
    NeverBackedUp,
    /// No backups are made, as the resource asks for.
    BackupSuspended,
    /// A backup is being restored.
    Restoring,
    /// A backup has been restored.
    RestoreComplete,
    /// A backup could not be restored.
    RestoreFailed,
    /// PostgreSQL is being upgraded.
    Upgrading,
    /// PostgreSQL has been upgraded.
    UpgradeComplete,
    /// An upgrade of PostgreSQL failed, and the former server serves.
    UpgradeFailed,
    /// An upgrade of PostgreSQL has not begun, because of something else that must end first.
    UpgradeWaiting,
    /// An upgrade of PostgreSQL has not begun, because it would not fit.
    UpgradeDoesNotFit,
    /// A component will not become ready by itself.
    Stalled,
    /// The cluster lacks the kinds of CloudNativePG.
    CloudNativePGMissing,
    /// CloudNativePG reports a problem of the Cluster of PostgreSQL.
    ClusterUnhealthy,
    /// The kubelet cannot pull an image.
    ImagePullBackOff,
    /// The name of an image is not valid.
    InvalidImageName,
    /// A container terminates repeatedly.
    CrashLoopBackOff,
    /// No node can run a pod.
    Unschedulable,
    /// A pod cannot end, because its node does not answer.
    NodeLost,
    /// A field has an invalid value.
    Invalid,
    /// The stored resource does not match the schema.
    Unparsable,
    /// An object with a name that is needed belongs to somebody else.
    NameTaken,
    /// A Secret, or a key in it, does not exist.
    SecretMissing,
    /// The content of a Secret cannot be used.
    SecretInvalid,
    /// A certificate of a Secret ends soon.
    CertificateExpiring,
    /// A certificate of a Secret has ended.
    CertificateExpired,
    /// A volume is smaller than asked for and has not grown yet.
    VolumeGrowing,
    /// A volume cannot grow.
    VolumeRefused,
    /// The operator lacks a permission.
    Forbidden,
    /// The API server considers an object invalid.
    Rejected,
    /// The API server responded with another error.
    ApiRefused,
    /// The API server did not respond.
    ApiUnavailable,
    /// The API server did not respond in time.
    TimedOut,
}

impl Reason {
    /// Whether the operator or Kubernetes is still working on it, so that waiting is enough.
    pub fn is_underway(self) -> bool {
        matches!(
            self,
            Self::Missing
                | Self::Starting
                | Self::RollingOut
                | Self::ScalingDown
                | Self::WaitingForAggregators
                | Self::WaitingForPublishers
                | Self::WaitingForTurn
                | Self::WaitingForPostgres
                | Self::NotConfirmed
                | Self::VolumeGrowing
                | Self::Hibernating
                | Self::Restoring
                | Self::Upgrading
                | Self::UpgradeWaiting
        )
    }

    /// Whether the event about it is of type `Normal`. All others are of type `Warning`.
    pub fn is_normal(self) -> bool {
        matches!(
            self,
            Self::AllReady
                | Self::Starting
                | Self::RollingOut
                | Self::ScalingDown
                | Self::WaitingForAggregators
                | Self::WaitingForPublishers
                | Self::WaitingForTurn
                | Self::WaitingForPostgres
                | Self::NotConfirmed
                | Self::VolumeGrowing
                | Self::WaitingForDeletion
                | Self::BackupRecent
                | Self::Restoring
                | Self::RestoreComplete
                | Self::Upgrading
                | Self::UpgradeComplete
                | Self::UpgradeWaiting
                | Self::Paused
                | Self::Hibernated
                | Self::Hibernating
        )
    }

    /// Returns the reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reason of a condition: one of ours, or one that Kubernetes gave for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionReason {
    /// One of the closed set.
    Ours(Reason),
    /// A word of the kubelet or of the scheduler that is not in the closed set, such as
    /// `CreateContainerConfigError`. It is reported unchanged, because Kubernetes may add others.
    Kubernetes(String),
}

impl ConditionReason {
    /// Returns the reason for a word that the kubelet or the scheduler gave for a pod.
    pub fn of_pod(word: &str) -> Self {
        Reason::from_name(word).map_or_else(|| Self::Kubernetes(word.to_owned()), Self::Ours)
    }

    /// The reason as it is written in a condition.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ours(reason) => reason.as_str(),
            Self::Kubernetes(word) => word,
        }
    }

    /// Whether waiting is enough. A word of Kubernetes that is not in the closed set never means so.
    pub fn is_underway(&self) -> bool {
        matches!(self, Self::Ours(reason) if reason.is_underway())
    }
}

impl From<Reason> for ConditionReason {
    fn from(reason: Reason) -> Self {
        Self::Ours(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_name() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::from_name("CreateContainerConfigError"), None);
    }

    #[test]
    fn an_unknown_word_of_kubernetes_is_passed_on_and_needs_attention() {
        let unknown = ConditionReason::of_pod("CreateContainerConfigError");
        assert_eq!(unknown.as_str(), "CreateContainerConfigError");
        assert!(!unknown.is_underway());
        assert_eq!(ConditionReason::of_pod("CrashLoopBackOff"), ConditionReason::Ours(Reason::CrashLoopBackOff));
    }
}
