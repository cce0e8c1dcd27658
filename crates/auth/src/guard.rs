//! The guard: finds the subject of each request, and compares its scopes with what the route needs.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use futures::future::BoxFuture;
use sluice_event::Timestamp;
use sluice_service::guard::{Decision, RequestGuard};
use sluice_service::problem::Problem;

use crate::jwt::{self, Jwt};
use crate::limits::{EventLimit, Limits, Rates};
use crate::policy::{self, Need};
use crate::problems::{invalid_token, missing_scope};
use crate::reload::Reloaded;
use crate::token_file::TokenFile;
use crate::{Subject, bearer};

/// A subject, and what it may send in a second; or why there is none.
type Found = Result<(Arc<Subject>, Rates), Problem>;

/// Authenticates requests by their tokens, and authorizes them by their routes. The sender of each request
/// that passes is a [`Subject`], unless its route needs nothing.
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

    /// Returns the subject of a token, or `None` if the token is a JWT that was not verified before. One that was
    /// verified has the form of a token, which takes as long to check as all the rest.
    fn known(&self, headers: &HeaderMap) -> Option<Found> {
        let found = bearer::presented(headers).and_then(|presented| match &self.jwt {
            Some(jwt) if jwt::has_shape(presented) => Ok(jwt.verified(presented).map(|subject| (subject, self.rates))),
            _ => self.of_file(bearer::text(presented)?).map(Some),
        });
        found.transpose()
    }

    async fn found(&self, headers: &HeaderMap) -> Found {
        let presented = bearer::presented(headers)?;
        let token = bearer::text(presented)?;
        match &self.jwt {
            Some(jwt) if jwt::has_shape(presented) => Ok((jwt.subject(token).await?, self.rates)),
            _ => self.of_file(token),
        }
    }

    fn of_file(&self, token: &str) -> Found {
        let unknown = || invalid_token("this token is not accepted");
        let file = self.tokens.as_ref().ok_or_else(unknown)?.current();
        let found = file.find(token).ok_or_else(unknown)?;
        if found.expires.is_some_and(|expires| expires <= Timestamp::now()) {
            return Err(invalid_token("this token has expired"));
        }
        Ok((found.subject.clone(), found.rates.or(self.rates)))
    }

    /// Decides about a request of a subject that was looked for.
    fn decide(&self, request: &mut Parts, need: Need, found: Found) -> Decision {
        match found {
            Err(problem) => Decision::refuse(problem),
            Ok((subject, rates)) => Decision::from(self.admit(request, need, &subject, rates)).about(subject),
        }
    }

    fn admit(&self, request: &mut Parts, need: Need, subject: &Subject, rates: Rates) -> Result<(), Problem> {
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
        Ok(())
    }
}

impl RequestGuard for Guard {
    fn check<'r>(&'r self, request: &'r mut Parts) -> BoxFuture<'r, Decision> {
        Box::pin(async move {
            let need = policy::need(&request.method, request.uri.path());
            if need == Need::Nothing {
                return Decision::serve();
            }
            let found = self.found(&request.headers).await;
            self.decide(request, need, found)
        })
    }

    fn check_now(&self, request: &mut Parts) -> Option<Decision> {
        let need = policy::need(&request.method, request.uri.path());
        if need == Need::Nothing {
            return Some(Decision::serve());
        }
        let found = self.known(&request.headers)?;
        Some(self.decide(request, need, found))
    }
}
