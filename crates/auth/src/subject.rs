//! Who sent a request.

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sluice_service::guard::Identity;

use crate::topics::Topics;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// To publish events.
    Publish,
    /// To read events, statistics and dead letters.
    Read,
    /// To replay and discard dead letters, and to audit.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::Publish, Self::Read, Self::Admin];

    /// Returns the name that is written in token files and claims.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// The text is not the name of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be publish, read or admin")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Returns whether it contains a scope. None contains another: an admin who also reads has both.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & Self::bit(scope) != 0
    }

    fn bit(scope: Scope) -> u8 {
        match scope {
            Scope::Publish => 1,
            Scope::Read => 2,
            Scope::Admin => 4,
        }
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | Self::bit(scope)))
    }
}

/// Who sent a request, and what they may do. It is the sender of a request that was authenticated.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The name of the token, or the claim `sub`; empty without authentication. It is part of the receipts, so that the
    /// `Idempotency-Key`s of two subjects never meet.
    pub name: Arc<str>,
    /// What they may do.
    pub scopes: Scopes,
    /// On which topics.
    pub topics: Topics,
}

impl Subject {
    /// Returns the subject that the guard of this crate has found.
    pub fn of(sender: &dyn Identity) -> Option<&Self> {
        (sender as &dyn Any).downcast_ref()
    }

    /// Returns the subject of every request where no authentication is configured: it may do everything.
    pub fn anyone() -> Self {
        Self { name: "".into(), scopes: Scope::ALL.into_iter().collect(), topics: Topics::All }
    }
}

impl Identity for Subject {
    fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_contains_the_scopes_it_was_made_of() {
        let set: Scopes = [Scope::Read, Scope::Admin].into_iter().collect();
        assert_eq!(Scope::ALL.map(|scope| set.contains(scope)), [false, true, true]);
        assert_eq!(Scope::ALL.map(|scope| Scopes::default().contains(scope)), [false; 3]);
    }
}
