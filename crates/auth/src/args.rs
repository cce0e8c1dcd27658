//! The settings of authentication, which every server of ours has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::Uri;
use clap::Args;
use sluice_service::browsers::{Origin, Origins};
use sluice_service::client_tls::{ClientFiles, ClientOptions, ClientTls};
use sluice_service::encryption::is_loopback;
use sluice_service::guard::SharedGuard;
use sluice_service::tls::Names;

use crate::guard::Guard;
use crate::jwt::{self, ClaimNames, JwksPlace, Jwt, JwtSettings, KeySet};
use crate::limits::Rates;
use crate::reload::{Reloaded, Source};
use crate::token_file::TokenFile;

/// Who may use a server.
#[derive(Debug, Clone, Args)]
pub struct AuthArgs {
    /// File with the tokens that are accepted, and what each is for. It is read again when it changes. Without it and
    /// without --jwt-issuer, everybody who reaches the server may do everything
    #[arg(long, env = "SLUICE_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Issuer of the JWTs that are accepted: their claim iss
    #[arg(long, env = "SLUICE_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,
    /// Audience of the JWTs that are accepted: their claim aud, or one of several there
    #[arg(long, env = "SLUICE_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// URL of the issuer's public keys (JWKS), or a file with them, which is read again when it changes
    #[arg(long, env = "SLUICE_JWT_JWKS", value_name = "URL|FILE")]
    pub jwt_jwks: Option<String>,
    /// File with certificates of CAs, in PEM, that are trusted for the URL of --jwt-jwks instead of those of the system
    #[arg(long, env = "SLUICE_JWT_CA", value_name = "FILE")]
    pub jwt_ca: Option<PathBuf>,
    /// Claim with the scopes of a JWT, publish, read and admin: a list, or a text with spaces between them
    #[arg(long, env = "SLUICE_JWT_SCOPES_CLAIM", default_value = "scope", value_name = "CLAIM")]
    pub jwt_scopes_claim: String,
    /// Claim with the patterns of topics that a JWT is for; a JWT without it is for all topics
    #[arg(long, env = "SLUICE_JWT_TOPICS_CLAIM", default_value = "topics", value_name = "CLAIM")]
    pub jwt_topics_claim: String,
    /// Requests that a client, which is the name of a token or the claim sub, may send to this server in a second;
    /// without it any number. A token of the file may have another number
    #[arg(long, env = "SLUICE_REQUESTS_PER_SECOND", value_name = "REQUESTS",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_second: Option<u32>,
    /// Events that a client may publish to this server in a second; without it any number. A token of the file may
    /// have another number
    #[arg(long, env = "SLUICE_EVENTS_PER_SECOND", value_name = "EVENTS",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub events_per_second: Option<u32>,
    /// Origins of other sites whose pages may use this server in a browser, such as https://app.example, with commas
    /// between them. Without it only pages of its own origin may
    #[arg(long, env = "SLUICE_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,
}

impl AuthArgs {
    /// Checks the settings together, and reads the files.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self) -> Result<(), String> {
        if let Some(file) = self.tokens.clone() {
            Reloaded::open(tokens_source(file), TokenFile::parse)?;
        }
        let jwt = self.jwt()?;
        if jwt.is_none() && self.tokens.is_none() && self.rates() != Rates::default() {
            return Err("--requests-per-second and --events-per-second need --tokens or --jwt-issuer".to_owned());
        }
        match jwt {
            Some((_, JwksPlace::File(file))) => Reloaded::open(jwt::source(file), KeySet::parse).map(|_| ()),
            Some((_, JwksPlace::Url(_))) => self.tls().config().map(|_| ()),
            None => Ok(()),
        }
    }

    /// Returns the guard of a server that listens on an address, and reads the files again from now on when they
    /// change. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Those of [`AuthArgs::check`].
    pub fn guard(&self, listen: SocketAddr) -> anyhow::Result<SharedGuard> {
        let tokens = match self.tokens.clone() {
            Some(file) => {
                let tokens = Reloaded::follow(tokens_source(file), TokenFile::parse).map_err(anyhow::Error::msg)?;
                tracing::info!(tokens = tokens.current().len(), "tokens of the file are accepted");
                Some(tokens)
            }
            None => None,
        };
        let jwt = match self.jwt().map_err(anyhow::Error::msg)? {
            Some((settings, place)) => {
                tracing::info!(issuer = settings.issuer, audience = settings.audience, "JWTs are accepted");
                Some(Jwt::start(settings, place, self.tls()).map_err(anyhow::Error::msg)?)
            }
            None => None,
        };
        if tokens.is_none() && jwt.is_none() {
            if !listen.ip().to_canonical().is_loopback() {
                tracing::warn!(
                    address = %listen,
                    "there is no authentication (--tokens, --jwt-issuer): whoever reaches the address can publish, read \
                     and replay"
                );
            }
            return Ok(None);
        }
        Ok(Some(Arc::new(Guard::new(tokens, jwt, self.rates()))))
    }

    /// Returns the origins of other sites whose pages may use the server.
    pub fn origins(&self) -> Origins {
        self.cors_origins.clone().into()
    }

    fn rates(&self) -> Rates {
        Rates { requests: self.requests_per_second, events: self.events_per_second }
    }

    /// Returns the settings of JWTs, if they are accepted.
    fn jwt(&self) -> Result<Option<(JwtSettings, JwksPlace)>, String> {
        let (issuer, audience, jwks) = match (&self.jwt_issuer, &self.jwt_audience, &self.jwt_jwks) {
            (None, None, None) => return Ok(None),
            (Some(issuer), Some(audience), Some(jwks)) => (issuer, audience, jwks),
            _ => return Err("--jwt-issuer, --jwt-audience and --jwt-jwks must be given together".to_owned()),
        };
        for (option, value) in [("--jwt-issuer", issuer), ("--jwt-audience", audience), ("--jwt-jwks", jwks)] {
            if value.is_empty() {
                return Err(format!("{option}: must not be empty"));
            }
        }
        let claims = ClaimNames { scopes: self.jwt_scopes_claim.clone(), topics: self.jwt_topics_claim.clone() };
        let settings = JwtSettings { issuer: issuer.clone(), audience: audience.clone(), claims };
        Ok(Some((settings, place(jwks)?)))
    }

    /// Returns what is trusted for the URL of the keys.
    fn tls(&self) -> ClientTls {
        let certificate = "a certificate of its own, for which there is no setting";
        let names = Names { server: "the issuer", url: "--jwt-jwks", ca: "--jwt-ca", certificate };
        let options = ClientOptions { names, cert: certificate, key: certificate };
        ClientTls::new(options, ClientFiles { ca: self.jwt_ca.clone(), ..ClientFiles::default() })
    }
}

/// Keys that come without TLS could be those of anybody on the network, so that only this host may send them.
fn place(jwks: &str) -> Result<JwksPlace, String> {
    if !jwks.contains("://") {
        return Ok(JwksPlace::File(jwks.into()));
    }
    let url: Uri = jwks.parse().map_err(|error| format!("--jwt-jwks: is no URL: {error}"))?;
    match (url.scheme_str(), url.host()) {
        (Some("https"), Some(_)) => Ok(JwksPlace::Url(url)),
        (Some("http"), Some(host)) if is_loopback(host) => Ok(JwksPlace::Url(url)),
        (Some("http"), _) => Err("--jwt-jwks: must begin with https://, because the host is another one".to_owned()),
        _ => Err("--jwt-jwks: must be a file or a URL that begins with https://".to_owned()),
    }
}

fn tokens_source(file: PathBuf) -> Source {
    Source { setting: "--tokens", label: "tokens", file }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        auth: AuthArgs,
    }

    fn checked(args: &[&str]) -> Result<(), String> {
        Program::try_parse_from([&["program"], args].concat()).map_err(|error| error.to_string())?.auth.check()
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_the_name_of_the_option() {
        let jwt = ["--jwt-issuer", "i", "--jwt-audience", "a", "--jwt-jwks"];
        for (args, expected) in [
            (&["--tokens", "/no/such/file"][..], "--tokens: /no/such/file: cannot be read"),
            (&["--events-per-second", "1"], "need --tokens or --jwt-issuer"),
            (&["--cors-origins", "*"], "--cors-origins"),
            (&["--cors-origins", "https://a.example,https://b.example/"], "--cors-origins"),
            (&["--requests-per-second", "0"], "--requests-per-second"),
            (&["--jwt-issuer", "i"], "--jwt-issuer, --jwt-audience and --jwt-jwks must be given together"),
            (&["--jwt-issuer", "", "--jwt-audience", "a", "--jwt-jwks", "/f"], "--jwt-issuer: must not be empty"),
            (&[&jwt[..], &["/no/such/file"]].concat(), "--jwt-jwks: /no/such/file: cannot be read"),
            (&[&jwt[..], &["http://issuer.example/keys"]].concat(), "--jwt-jwks: must begin with https://"),
            (&[&jwt[..], &["ftp://issuer.example/keys"]].concat(), "--jwt-jwks: must be a file or a URL"),
            (&[&jwt[..], &["https://"]].concat(), "--jwt-jwks: is no URL"),
            (&[&jwt[..], &["https://i/keys", "--jwt-ca", "/no/such/file"]].concat(), "--jwt-ca: /no/such/file cannot"),
        ] {
            let error = checked(args).expect_err(expected);
            assert!(error.contains(expected), "{args:?}: {error}");
        }
        for args in [&[][..], &[&jwt[..], &["https://i/keys"]].concat(), &[&jwt[..], &["http://[::1]:1/keys"]].concat()]
        {
            assert_eq!(checked(args), Ok(()), "{args:?}");
        }
    }
}
