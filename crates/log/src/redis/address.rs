//! The URL of Redis: one server, a primary that Sentinels know, or a cluster.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// More would only make a lookup longer when none of them answers.
const MAX_HOSTS: usize = 32;

/// The user and the password of the Sentinels. Those in the URL are for the servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentinelLogin {
    /// The user, if it is not the default one.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
}

/// A URL of Redis, parsed.
#[derive(Clone)]
pub(super) struct Address {
    pub topology: Topology,
    /// The server, the Sentinels or the first nodes to ask, with the user, the password and the database of the
    /// servers. There is at least one.
    pub hosts: Vec<ConnectionInfo>,
}

/// What the hosts of the URL are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology {
    /// The server.
    Single,
    /// Sentinels, which know the primary by this name.
    Sentinel { name: String },
    /// Some nodes of a cluster.
    Cluster,
}

impl Address {
    /// Parses a URL: `redis://`, `redis+sentinel://` or `redis+cluster://`, or `rediss` for TLS.
    ///
    /// # Errors
    /// What is wrong with it. The message contains no password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let Some((scheme, kind, rest)) = several_hosts(url) else {
            let info = url.into_connection_info().map_err(|error| error.to_string())?;
            return Ok(Self { topology: Topology::Single, hosts: vec![info] });
        };
        if rest.contains('#') {
            return Err(format!("a URL of a {} has no part after #", kind.noun()));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (topology, database) = kind.topology(path)?;
        let parse = |host: &str| {
            let port = if has_port(host) { String::new() } else { format!(":{}", kind.port()) };
            let login = login.map(|login| format!("{login}@")).unwrap_or_default();
            let url = format!("{scheme}://{login}{host}{port}/{database}?{query}");
            url.into_connection_info().map_err(|error| format!("host {host:?}: {error}"))
        };
        let hosts: Vec<_> = hosts.split(',').map(parse).collect::<Result<_, _>>()?;
        if hosts.len() > MAX_HOSTS {
            return Err(format!("there are {} hosts, more than {MAX_HOSTS}", hosts.len()));
        }
        Ok(Self { topology, hosts })
    }

    /// Returns how to connect to a server that was found at run time: with the user and the password of the URL, and
    /// with TLS if the URL says so.
    pub fn server(&self, host: &str, port: u16) -> ConnectionInfo {
        let host = host.to_owned();
        let addr = match self.hosts[0].addr() {
            ConnectionAddr::TcpTls { .. } => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.hosts[0].clone().set_addr(addr)
    }

    /// Returns the hosts and the ports of the URL.
    pub fn host_names(&self) -> Vec<(String, u16)> {
        let host = |info: &ConnectionInfo| match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some((host.clone(), *port)),
            _ => None,
        };
        self.hosts.iter().filter_map(host).collect()
    }

    /// Returns how to connect to the Sentinels, which have a user and a password of their own.
    pub fn sentinels(&self, login: &SentinelLogin) -> Vec<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default();
        if let Some(user) = &login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password);
        }
        self.hosts.iter().map(|info| info.clone().set_redis_settings(settings.clone())).collect()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Sentinel,
    Cluster,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Sentinel => "primary that Sentinels know",
            Self::Cluster => "cluster",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Sentinel => SENTINEL_PORT,
            Self::Cluster => REDIS_PORT,
        }
    }

    /// Returns the topology and the database that a path stands for.
    fn topology(self, path: &str) -> Result<(Topology, &str), String> {
        let path = path.trim_end_matches('/');
        match self {
            Self::Sentinel => {
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err("the name of the primary is missing: redis+sentinel://HOST,HOST,HOST/NAME".into());
                }
                Ok((Topology::Sentinel { name: name.to_owned() }, database))
            }
            Self::Cluster if matches!(path, "" | "0") => Ok((Topology::Cluster, "")),
            Self::Cluster => Err("a cluster has only the database 0".into()),
        }
    }
}

/// Splits a URL with several hosts into the scheme for one of them, what the hosts are, and the rest.
fn several_hosts(url: &str) -> Option<(&'static str, Kind, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (scheme, kind) = match scheme {
        "redis+sentinel" => ("redis", Kind::Sentinel),
        "rediss+sentinel" => ("rediss", Kind::Sentinel),
        "redis+cluster" => ("redis", Kind::Cluster),
        "rediss+cluster" => ("rediss", Kind::Cluster),
        _ => return None,
    };
    Some((scheme, kind, rest))
}

/// Returns whether a host has a port. An IPv6 address is in brackets and has colons of its own.
fn has_port(host: &str) -> bool {
    host.rsplit(']').next().is_some_and(|end| end.contains(':'))
}

/// Returns the host and the port, for messages.
pub(super) fn name(info: &ConnectionInfo) -> String {
    info.addr().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(address: &Address) -> Vec<String> {
        address.hosts.iter().map(name).collect()
    }

    #[test]
    fn sentinels_have_their_port_the_name_and_the_login_of_the_servers() {
        let address = Address::parse("rediss+sentinel://me:p%40ss@a,b:1,[::1],[::2]:2/shop/3?protocol=resp3").unwrap();
        assert_eq!(address.topology, Topology::Sentinel { name: "shop".into() });
        assert_eq!(hosts(&address), ["a:26379", "b:1", "::1:26379", "::2:2"]);
        let server = address.server("10.0.0.1", 7000);
        assert!(matches!(server.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        let settings = server.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("me"), Some("p@ss"), 3));
        let login = SentinelLogin { user: None, password: Some("s".into()) };
        let sentinel = address.sentinels(&login).remove(0);
        let settings = sentinel.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (None, Some("s"), 0));
    }

    #[test]
    fn nodes_of_a_cluster_have_the_port_of_redis() {
        let address = Address::parse("redis+cluster://:secret@a,b:7001/").unwrap();
        assert_eq!(address.topology, Topology::Cluster);
        assert_eq!(hosts(&address), ["a:6379", "b:7001"]);
        assert_eq!(address.server("c", 1).redis_settings().password(), Some("secret"));
        assert!(matches!(address.server("c", 1).addr(), ConnectionAddr::Tcp(..)));
    }

    #[test]
    fn urls_that_cannot_be_one_are_refused_without_the_password() {
        for (url, reason) in [
            ("redis+sentinel://:secret@a,b", "the name of the primary is missing"),
            ("redis+sentinel://:secret@a,b//1", "the name of the primary is missing"),
            ("redis+sentinel://:secret@a/name/x", "Invalid database number"),
            ("redis+sentinel://:secret@a,,b/name", "host \"\""),
            ("redis+cluster://:secret@a/1", "only the database 0"),
            ("rediss+cluster://:secret@a#insecure", "no part after #"),
            ("redis+other://:secret@a", "did not parse"),
            ("redis+cluster://", "host \"\""),
        ] {
            let error = Address::parse(url).err().unwrap_or_else(|| panic!("{url} was accepted"));
            assert!(error.contains(reason) && !error.contains("secret"), "{url}: {error}");
        }
        let many = vec!["a"; MAX_HOSTS + 1].join(",");
        assert!(Address::parse(&format!("redis+cluster://{many}")).is_err());
    }
}
