//! The URLs of external servers, as far as NetworkPolicies need them.

/// The port of a Sentinel whose URL names none.
const SENTINEL_PORT: i32 = 26_379;

/// Returns the ports to which the programs connect, or `None` if the text is not a URL with one of these schemes.
/// `default` is the port of a server whose URL names none, and `of_pods` replaces that of the servers.
pub(super) fn ports(url: &[u8], schemes: &[&str], default: i32, of_pods: Option<i32>) -> Option<Vec<i32>> {
    let url = std::str::from_utf8(url).ok()?;
    let (scheme, rest) = url.split_once("://")?;
    if !schemes.contains(&scheme) || url.contains(char::is_whitespace) {
        return None;
    }
    let (authority, path) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let ports: Option<Vec<_>> = hosts.split(',').map(port).collect();
    let ports = ports?;
    let mut all = match scheme.split_once('+').map(|(_, topology)| topology) {
        // The Sentinels name the servers, by the name of the primary in the path.
        Some("sentinel") if path.is_empty() => return None,
        Some("sentinel") => {
            let sentinels = ports.into_iter().map(|port| port.unwrap_or(SENTINEL_PORT));
            sentinels.chain([of_pods.unwrap_or(default)]).collect()
        }
        None if ports.len() > 1 && scheme.starts_with("redis") => return None,
        _ => match of_pods {
            Some(port) => vec![port],
            None => ports.into_iter().map(|port| port.unwrap_or(default)).collect::<Vec<_>>(),
        },
    };
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// Whether the URL is of servers of which one takes over when another fails: those of Sentinels, or a Redis Cluster.
pub(super) fn fails_over(url: &[u8]) -> bool {
    let scheme = std::str::from_utf8(url).ok().and_then(|url| url.split_once("://")).map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.ends_with("+sentinel") || scheme.ends_with("+cluster"))
}

/// Returns the port of a host: `Some(None)` if it has none, `None` if it is no host.
fn port(host: &str) -> Option<Option<i32>> {
    let after_host = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.1,
        None => &host[host.find(':').unwrap_or(host.len())..],
    };
    match after_host.strip_prefix(':') {
        None if host.is_empty() || !after_host.is_empty() => None,
        None => Some(None),
        Some(_) if host.starts_with(':') => None,
        Some(port) => port.parse::<u16>().ok().filter(|&port| port > 0).map(|port| Some(i32::from(port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_external_servers_are_read_from_their_urls() {
        let schemes = ["redis", "redis+sentinel", "rediss+cluster"];
        let redis = |url: &str| ports(url.as_bytes(), &schemes, 6379, None);
        assert_eq!(redis("redis://:secret@cache:6380/0"), Some(vec![6380]));
        assert_eq!(redis("redis://cache"), Some(vec![6379]));
        assert_eq!(redis("redis://user:p%40ss@[::1]:7000?x=y"), Some(vec![7000]));
        assert_eq!(redis("redis://[::1]/1"), Some(vec![6379]));
        assert_eq!(redis("redis+sentinel://:pw@s1,s2:5000,s3/shop/0"), Some(vec![5000, 6379, 26379]));
        assert_eq!(redis("rediss+cluster://:pw@n1:7000,n2:7001,[::1]"), Some(vec![6379, 7000, 7001]));
        for url in [
            "",
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://:secret@",
            "redis://h:port",
            "redis://h:0",
            "redis://a,b",
            "redis+sentinel://s1,s2",
            "redis+sentinel://s1,,s2/shop",
            "rediss+cluster://",
            "redis://:1",
        ] {
            assert_eq!(redis(url), None, "{url:?}");
        }
        let of_pods = |url: &str| ports(url.as_bytes(), &schemes, 6379, Some(7)).unwrap();
        assert_eq!((of_pods("redis://cache:6380"), of_pods("redis+sentinel://s1/shop")), (vec![7], vec![7, 26379]));
        assert_eq!(ports(b"postgres://a:1,b:2/events", &["postgres"], 5432, None), Some(vec![1, 2]));
    }
}
