//! The guard: finds the subject of each request, and compares its scopes with what the route needs.

use std::sync::Arc;

use axum::http::request::Parts;
use futures::future::BoxFuture;
use sluice_event::Timestamp;
use sluice_service::guard::{RequestGuard, SubjectName};
use sluice_service::problem::Problem;

use crate::jwt::{self, Jwt};
use crate::limits::{EventLimit, Limits, Rates};
use crate::policy::{self, Need};
use crate::problems::{invalid_token, missing_scope};
use crate::reload::Reloaded;
use crate::token_file::TokenFile;
use crate::{Subject, bearer};

/// Authenticates requests by their tokens, and authorizes them by their routes. The [`Subject`] is in the extensions of
/// each request that passes, unless its route needs nothing.
pub struct Guard {
    tokens: Option<Arc<Reloaded<TokenFile>>>,
    jwt: Option<Jwt>,
    limits: Arc<Limits>,
    /// Of the subjects whose tokens have no others.
    rates: Rates,
}

impl Guard {
    /// Returns a guard that accepts the tokens of a file, JWTs, or both.
    pub(crate) fn new(tokens: Option<Arc<Reloaded<TokenFile>>>, jwt: Option<Jwt>, rates: Rates) -> Self {
        Self { tokens, jwt, limits: Arc::default(), rates }
    }

    async fn decide(&self, request: &mut Parts) -> Result<(), Problem> {
        let need = policy::need(&request.method, request.uri.path());
        if need == Need::Nothing {
            return Ok(());
        }
        let (subject, rates) = self.subject(bearer::token(&request.headers)?).await?;
        request.extensions.insert(SubjectName(subject.name.clone()));
        if let Some(rate) = rates.requests {
            self.limits.request(&subject.name, rate)?;
        }
        if let Need::Scope(scope) = need
            && !subject.scopes.contains(scope)
        {
            return Err(missing_scope(scope));
        }
        if let Some(rate) = rates.events {
            request.extensions.insert(EventLimit::new(&self.limits, &subject.name, rate));
        }
        request.extensions.insert(subject);
        Ok(())
    }

    async fn subject(&self, token: &str) -> Result<(Subject, Rates), Problem> {
        match &self.jwt {
            Some(jwt) if jwt::has_shape(token) => Ok((jwt.subject(token).await?, self.rates)),
            _ => self.of_file(token),
        }
    }

    fn of_file(&self, token: &str) -> Result<(Subject, Rates), Problem> {
        let unknown = || invalid_token("this token is not accepted");
        let file = self.tokens.as_ref().ok_or_else(unknown)?.current();
        let found = file.find(token).ok_or_else(unknown)?;
        if found.expires.is_some_and(|expires| expires <= Timestamp::now()) {
            return Err(invalid_token("this token has expired"));
        }
        Ok((found.subject.clone(), found.rates.or(self.rates)))
    }
}

impl RequestGuard for Guard {
    fn check<'r>(&'r self, request: &'r mut Parts) -> BoxFuture<'r, Result<(), Problem>> {
        Box::pin(self.decide(request))
    }
}
