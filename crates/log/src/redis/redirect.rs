//! What a node of a cluster answers when it does not serve a slot, or not all of it.

use redis::RedisError;

use super::error::server_error;

/// Where a request must be sent instead. The node has executed nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// To the node at this host and port, which owns the slot now. An empty host is that of the node that said so.
    Moved(String, u16),
    /// This request alone to this node, to which the slot is being moved.
    Ask(String, u16),
    /// To the same node, later: some keys of the request have been moved and others not.
    Later,
}

impl Redirect {
    /// Returns what an error says; `None` when it is no redirection.
    pub fn of(error: &RedisError) -> Option<Self> {
        let (code, detail) = server_error(error)?;
        match code.as_str() {
            "MOVED" => target(&detail).map(|(host, port)| Self::Moved(host, port)),
            "ASK" => target(&detail).map(|(host, port)| Self::Ask(host, port)),
            "TRYAGAIN" => Some(Self::Later),
            _ => None,
        }
    }
}

/// Reads `3999 127.0.0.1:6381`. The address of IPv6 has no brackets.
fn target(detail: &str) -> Option<(String, u16)> {
    let (host, port) = detail.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(reply: &[u8]) -> Option<Redirect> {
        Redirect::of(&redis::parse_redis_value(reply).unwrap().extract_error().unwrap_err())
    }

    #[test]
    fn redirections_are_told_from_other_errors() {
        assert_eq!(redirect(b"-MOVED 3999 127.0.0.1:6381\r\n"), Some(Redirect::Moved("127.0.0.1".into(), 6381)));
        assert_eq!(redirect(b"-MOVED 3999 :6381\r\n"), Some(Redirect::Moved(String::new(), 6381)));
        assert_eq!(redirect(b"-ASK 1 fe80::1:7000\r\n"), Some(Redirect::Ask("fe80::1".into(), 7000)));
        assert_eq!(redirect(b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"), Some(Redirect::Later));
        assert_eq!(redirect(b"-CLUSTERDOWN The cluster is down\r\n"), None);
        assert_eq!(redirect(b"-ERR MOVED\r\n"), None);
    }
}
