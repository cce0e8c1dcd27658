//! Several hosts in one URL, as libpq has them: `postgres://user:password@a:5432,b:5433/database`.
//!
//! Events are written, so of several hosts the one that accepts writes is looked for, as with
//! `target_session_attrs=read-write`, which is also the way to demand it of a single host.

use sqlx::{Error, PgConnection};
use url::Url;

const ATTRIBUTES: &str = "target_session_attrs";

/// The hosts of a URL.
#[derive(Debug)]
pub(super) struct Hosts {
    /// A URL for each host, at least one.
    pub urls: Vec<Url>,
    /// Whether a server that accepts no writes must not be used.
    pub must_write: bool,
}

/// Splits a URL.
///
/// # Errors
/// The name of the option and the reason.
pub(super) fn split(url: &str) -> Result<Hosts, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("--database-url cannot be used: {error}");
    let begin = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |length| begin + length);
    // The user and the password are before the last @.
    let hosts = url[begin..end].rfind('@').map_or(begin, |at| begin + at + 1);
    let mut must_write = url[hosts..end].contains(',');
    let mut urls = Vec::new();
    for host in url[hosts..end].split(',') {
        if host.is_empty() && must_write {
            return Err(cannot(&"one of its hosts is empty"));
        }
        let mut url: Url = format!("{}{host}{}", &url[..hosts], &url[end..]).parse().map_err(|error| cannot(&error))?;
        must_write |= take_attributes(&mut url)?;
        urls.push(url);
    }
    let in_parameter = |url: &Url| url.query_pairs().any(|(name, value)| name == "host" && value.contains(','));
    if urls.iter().any(in_parameter) {
        return Err(cannot(&"several hosts are given before the database, as HOST1:PORT1,HOST2:PORT2"));
    }
    Ok(Hosts { urls, must_write })
}

/// Removes the parameter, which the driver does not know; returns whether it demands a server that accepts writes.
fn take_attributes(url: &mut Url) -> Result<bool, String> {
    let mut must_write = false;
    let mut others = Vec::new();
    for (name, value) in url.query_pairs() {
        match (&*name, &*value) {
            (ATTRIBUTES, "read-write" | "primary") => must_write = true,
            (ATTRIBUTES, "any") => {}
            (ATTRIBUTES, other) => {
                return Err(format!("--database-url: {ATTRIBUTES}={other} cannot work, because events are written"));
            }
            _ => others.push((name.into_owned(), value.into_owned())),
        }
    }
    if url.query_pairs().count() > others.len() {
        url.query_pairs_mut().clear().extend_pairs(others);
    }
    Ok(must_write)
}

/// Returns whether the server accepts writes.
pub(super) async fn accepts_writes(connection: &mut PgConnection) -> Result<bool, Error> {
    let ask = "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'";
    sqlx::query_scalar(ask).persistent(false).fetch_one(connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_one_for_each_host() {
        for (url, expected, must_write) in [
            ("postgres://a/x", &["postgres://a/x"][..], false),
            ("postgres://a/x?target_session_attrs=read-write", &["postgres://a/x?"], true),
            ("postgres://a,b/x", &["postgres://a/x", "postgres://b/x"], true),
            (
                "postgres://u:p,w@a:1,[::1]:2/x?sslmode=require&target_session_attrs=any",
                &["postgres://u:p,w@a:1/x?sslmode=require", "postgres://u:p,w@[::1]:2/x?sslmode=require"],
                true,
            ),
            ("postgres:///x?host=/run", &["postgres:///x?host=/run"], false),
        ] {
            let hosts = split(url).unwrap();
            assert_eq!(hosts.urls.iter().map(Url::as_str).collect::<Vec<_>>(), expected, "{url}");
            assert_eq!(hosts.must_write, must_write, "{url}");
        }
    }

    #[test]
    fn hosts_that_cannot_work_are_refused_by_the_name_of_the_option() {
        for (url, expected) in [
            ("postgres://a,/x", "one of its hosts is empty"),
            ("postgres://a,b:port/x", "port"),
            ("postgres://a/x?target_session_attrs=standby", "because events are written"),
            ("postgres:///x?host=a,b", "HOST1:PORT1,HOST2:PORT2"),
        ] {
            let refused = split(url).expect_err(url);
            assert!(refused.starts_with("--database-url") && refused.contains(expected), "{url}: {refused}");
        }
    }
}
