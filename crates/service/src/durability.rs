//! What the servers of the data promise about an event that was confirmed: that it is on disk, and stays there.
//!
//! A program confirms an event when Redis or PostgreSQL has confirmed it. That is worth as much as the settings of
//! these servers, which somebody else may have chosen. So each client of a server looks at them on every connection.
//! What is less than needed, or not told, is logged once per change, is shown as a metric and in the answer of
//! `/readyz`, and makes a program not ready that requires more ([`Requirement`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::encryption::Encryption;

/// A setting of a server, compared with what durability needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The name of the setting, such as `redis.appendfsync`: one of a closed set.
    pub setting: &'static str,
    /// What the setting must be, in words.
    pub needed: &'static str,
    /// What it is.
    pub found: Found,
}

/// The value of a setting, as far as durability depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// As it must be.
    Enough,
    /// This instead.
    Less(String),
    /// Not told by the server, for example because it refuses the question.
    Unknown,
}

impl Check {
    /// Compares a value, which is `None` when the server does not tell it.
    pub fn new(
        setting: &'static str,
        needed: &'static str,
        value: Option<&str>,
        enough: impl FnOnce(&str) -> bool,
    ) -> Self {
        let found = match value {
            Some(value) if enough(value) => Found::Enough,
            Some(value) => Found::Less(value.to_owned()),
            None => Found::Unknown,
        };
        Self { setting, needed, found }
    }

    /// Returns a sentence about what is missing; `None` when nothing is.
    fn missing(&self) -> Option<String> {
        let Self { setting, needed, found } = self;
        match found {
            Found::Enough => None,
            Found::Less(value) => Some(format!("{setting} is {value}, but durability needs {needed}")),
            Found::Unknown => Some(format!("{setting} is unknown, and durability needs {needed}")),
        }
    }
}

/// What one server promises, as it was last found. Cheap to clone; clones share what is recorded.
#[derive(Debug, Clone)]
pub struct Durability {
    server: &'static str,
    checks: Arc<Mutex<Vec<Check>>>,
    /// What the server has lost of what it had confirmed, as it was last found.
    loss: Arc<Mutex<Option<String>>>,
}

impl Durability {
    /// Returns the durability of a server with this name, of which nothing is known yet.
    pub fn of(server: &'static str) -> Self {
        Self { server, checks: Arc::default(), loss: Arc::default() }
    }

    /// Records what was found, and logs what is missing if it has changed.
    pub fn record(&self, found: Vec<Check>) {
        for check in &found {
            let value = match check.found {
                Found::Enough => 1.0,
                Found::Less(_) => 0.0,
                Found::Unknown => f64::NAN,
            };
            metrics::gauge!(crate::metrics::DURABILITY_SETTING.name, "setting" => check.setting).set(value);
        }
        let mut checks = self.lock();
        if *checks == found {
            return;
        }
        let before = std::mem::replace(&mut *checks, found);
        for check in checks.iter().filter(|check| !before.contains(check)) {
            match check.missing() {
                Some(missing) => tracing::warn!(missing, "a confirmed event may be lost when a server fails"),
                None if !before.is_empty() => {
                    tracing::info!(setting = check.setting, "the setting is now as durability needs it");
                }
                None => {}
            }
        }
    }

    /// Reports that the server has lost what it had confirmed. It stays a line of `/readyz` until the program restarts.
    pub fn report_loss(&self, loss: String) {
        *self.loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(loss);
    }

    /// Returns a line for each setting that is less than needed, or unknown, and for a loss.
    fn notes(&self) -> Vec<String> {
        let loss = self.loss.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.lock().iter().filter_map(Check::missing).chain(loss).collect()
    }

    fn refusal(&self, accepted: &[String]) -> Option<String> {
        let checks = self.lock();
        if checks.is_empty() {
            return Some(format!("what {} promises is not known yet", self.server));
        }
        let accepted = |check: &Check| check.found == Found::Unknown && accepted.iter().any(|a| a == check.setting);
        checks.iter().filter(|check| !accepted(check)).find_map(Check::missing)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Check>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a program requires of its servers. The default is a program without servers, which needs nothing.
#[derive(Debug, Clone, Default)]
pub struct Requirement {
    /// The servers.
    pub servers: Vec<Durability>,
    /// Whether the connections to them are encrypted, of which only `/readyz` tells.
    pub encryption: Vec<Encryption>,
    /// Whether the program is not ready while a setting is less than durability needs, or unknown.
    pub require: bool,
    /// The settings that may be unknown nevertheless.
    pub accept_unknown: Vec<String>,
}

impl Requirement {
    /// Returns a line for each setting that is less than needed, or unknown, and for each server to which connections
    /// can be read, for `/readyz`.
    ///
    /// # Errors
    /// The reason why the program is not ready.
    pub fn check(&self) -> Result<Vec<String>, String> {
        if self.require
            && let Some(reason) = self.servers.iter().find_map(|server| server.refusal(&self.accept_unknown))
        {
            return Err(reason);
        }
        let unencrypted = self.encryption.iter().filter_map(Encryption::note);
        Ok(self.servers.iter().flat_map(Durability::notes).chain(unencrypted).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: &str = "redis.appendfsync";

    fn found(value: Option<&str>) -> Durability {
        let durability = Durability::of("Redis");
        durability.record(vec![Check::new(SETTING, "always", value, |value| value == "always")]);
        durability
    }

    fn required(durability: Durability, accept_unknown: &[&str]) -> Requirement {
        let accept_unknown = accept_unknown.iter().map(ToString::to_string).collect();
        Requirement { servers: vec![durability], require: true, accept_unknown, ..Requirement::default() }
    }

    #[test]
    fn an_unknown_setting_is_refused_unless_it_is_accepted_and_a_lesser_one_is_always_refused() {
        for (value, refused, refused_if_accepted) in
            [(Some("always"), false, false), (Some("everysec"), true, true), (None, true, false)]
        {
            assert_eq!(required(found(value), &[]).check().is_err(), refused, "{value:?}");
            assert_eq!(required(found(value), &[SETTING]).check().is_err(), refused_if_accepted, "{value:?}");
        }
        let unknown = required(Durability::of("Redis"), &[SETTING]).check();
        assert_eq!(unknown, Err("what Redis promises is not known yet".to_owned()));
    }

    #[test]
    fn what_is_missing_is_told_and_refuses_nothing_unless_it_is_required() {
        for (value, lines) in [(Some("always"), 0), (Some("everysec"), 1), (None, 1)] {
            let requirement = Requirement { servers: vec![found(value)], ..Requirement::default() };
            assert_eq!(requirement.check().unwrap().len(), lines, "{value:?}");
        }
        let none = Requirement { require: true, ..Requirement::default() };
        assert_eq!(none.check(), Ok(Vec::new()), "a program without servers promises by itself");
    }
}
