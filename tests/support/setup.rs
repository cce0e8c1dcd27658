//! The description of the system that a test needs, and its start.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::certificates::{Ours, ours};
use crate::postgres::{DATABASE, PostgresServer, url_of};
use crate::program::Program;
use crate::redis::RedisServer;
use crate::store::StoreAddress;
use crate::system::{Backend, OwnServers, System};
use crate::{Client, dirs};

/// Servers that the tests of one binary share. No test kills them, so data need not be synced to disk.
static SHARED_REDIS: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);
static SHARED_POSTGRES: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start(false));
/// The same, for systems that reach them by TLS.
static SHARED_TLS: LazyLock<OwnServers> = LazyLock::new(servers_with_tls);
/// Whether every system of this process uses TLS for all its connections.
static ALL_OVER_TLS: LazyLock<bool> =
    LazyLock::new(|| std::env::var("SLUICE_TEST_TLS").is_ok_and(|value| value == "1"));
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The description of a system. [`Setup::start`] starts it.
#[derive(Debug)]
pub struct Setup {
    backend: Backend,
    aggregators: usize,
    publisher_args: Vec<String>,
    aggregator_args: Vec<String>,
    servers: Option<OwnServers>,
    tls: bool,
    data: Option<PathBuf>,
    redis_proxy: Option<String>,
    postgres_proxy: Option<String>,
    redis_at: Option<(String, String)>,
    redis_of_each: Vec<String>,
    postgres_of_each: Vec<String>,
    env: Vec<(String, String)>,
    programs: Option<PathBuf>,
    database: Option<String>,
}

/// Few, so that every test with some load closes partitions. In the environment, where a program of an older version, to
/// which it means nothing, is not disturbed by it.
const PARTITION_ROWS: u32 = 2_000;

impl Setup {
    /// One aggregator, default settings, on the shared servers with its own prefix and schema.
    ///
    /// With `SLUICE_TEST_TLS=1` in the environment, all connections use TLS.
    pub fn new(backend: Backend) -> Self {
        let setup = Self::without_tls(backend);
        if *ALL_OVER_TLS { setup.with_certificates() } else { setup }
    }

    /// Like [`Setup::new`], without TLS in any environment.
    pub fn without_tls(backend: Backend) -> Self {
        Self {
            backend,
            aggregators: 1,
            publisher_args: Vec::new(),
            aggregator_args: Vec::new(),
            servers: None,
            tls: false,
            data: None,
            redis_proxy: None,
            postgres_proxy: None,
            redis_at: None,
            redis_of_each: Vec::new(),
            postgres_of_each: Vec::new(),
            env: Vec::new(),
            programs: None,
            database: None,
        }
    }

    /// Sets the number of replicas. A standalone system stays one process.
    pub fn aggregators(mut self, count: usize) -> Self {
        self.aggregators = count;
        self
    }

    /// Sets an option of the publisher.
    pub fn publisher(mut self, option: &str, value: &str) -> Self {
        self.publisher_args.extend([option.to_owned(), value.to_owned()]);
        self
    }

    /// Sets an option of the aggregator.
    pub fn aggregator(mut self, option: &str, value: &str) -> Self {
        self.aggregator_args.extend([option.to_owned(), value.to_owned()]);
        self
    }

    /// Sets an option of a replica, which a standalone system does not have.
    pub fn replica(self, option: &str, value: &str) -> Self {
        if self.backend == Backend::Standalone { self } else { self.aggregator(option, value) }
    }

    /// Sets an environment variable of all programs.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Stores in this database, whose URL may have several hosts, instead of the system's own server.
    pub fn database(mut self, url: &str) -> Self {
        self.database = Some(url.to_owned());
        self
    }

    /// Starts the programs in this folder, of another version.
    pub fn programs_from(mut self, folder: &Path) -> Self {
        self.programs = Some(folder.to_owned());
        self
    }

    /// Uses servers for this system alone, which the test may stop or kill.
    pub async fn own_servers(mut self) -> Self {
        let start = || OwnServers { redis: RedisServer::start(), postgres: PostgresServer::start(true) };
        self.servers = Some(tokio::task::spawn_blocking(start).await.expect("servers"));
        self
    }

    /// Uses servers for this system alone that the programs reach by TLS, and TLS between clients and programs. Every
    /// server demands a certificate of its clients.
    pub async fn over_tls(mut self) -> Self {
        if self.backend == Backend::RedisPostgres {
            self.servers = Some(tokio::task::spawn_blocking(servers_with_tls).await.expect("servers"));
        }
        if self.tls { self } else { self.with_certificates() }
    }

    fn with_certificates(mut self) -> Self {
        let Ours { authority, server, client } = ours();
        self.tls = true;
        let files = [
            ("SLUICE_TLS_CERT", server.cert.as_path()),
            ("SLUICE_TLS_KEY", server.key.as_path()),
            ("SLUICE_TLS_CLIENT_CA", authority.ca()),
        ];
        let of_clients = ["SLUICE_REDIS", "SLUICE_QUERY"].into_iter().flat_map(|prefix| {
            [("CA", authority.ca()), ("CERT", client.cert.as_path()), ("KEY", client.key.as_path())]
                .map(|(name, file)| (format!("{prefix}_{name}"), file))
        });
        let files: Vec<_> = files.map(|(name, file)| (name.to_owned(), file)).into_iter().chain(of_clients).collect();
        let setup = files.iter().fold(self, |setup, (name, file)| setup.env(name, &file.display().to_string()));
        setup.env("SLUICE_REQUIRE_TLS", "true")
    }

    /// Uses these servers, which this system alone uses.
    pub fn on_servers(mut self, servers: OwnServers) -> Self {
        self.servers = Some(servers);
        self
    }

    /// Puts the data of a standalone system into this directory.
    pub fn data_in(mut self, data: &Path) -> Self {
        self.data = Some(data.to_owned());
        self
    }

    /// Returns the servers of [`Setup::own_servers`], so that a proxy can be placed in front of one.
    pub fn servers(&self) -> &OwnServers {
        self.servers.as_ref().expect("a setup with its own servers")
    }

    /// The programs reach Redis at the first URL, and the test itself at the second one.
    pub fn redis_at(mut self, url: &str, of_the_test: &str) -> Self {
        self.redis_at = Some((url.to_owned(), of_the_test.to_owned()));
        self
    }

    /// The publisher reaches Redis through this address.
    pub fn redis_through(mut self, address: &str) -> Self {
        self.redis_proxy = Some(format!("redis://{address}"));
        self
    }

    /// The aggregators reach Postgres through this address.
    pub fn postgres_through(mut self, address: &str) -> Self {
        self.postgres_proxy = Some(url_of(address, DATABASE));
        self
    }

    /// The aggregators reach Postgres at this URL, and the test itself as it is without it.
    pub fn postgres_at(mut self, url: &str) -> Self {
        self.postgres_proxy = Some(url.to_owned());
        self
    }

    /// Each aggregator reaches Redis and Postgres through the addresses at its number.
    pub fn each_aggregator_through(mut self, redis: &[&str], postgres: &[&str]) -> Self {
        self.redis_of_each = redis.iter().map(|address| format!("redis://{address}")).collect();
        self.postgres_of_each = postgres.iter().map(|address| url_of(address, DATABASE)).collect();
        self
    }

    /// Returns the URLs of its Redis and its Postgres, as its programs get them.
    pub async fn urls(&self) -> (String, String) {
        if let Some((redis, _)) = &self.redis_at {
            let postgres = tokio::task::spawn_blocking(|| SHARED_POSTGRES.url()).await.expect("a server");
            return (redis.clone(), postgres);
        }
        let tls = self.tls;
        match &self.servers {
            Some(servers) => urls(servers, tls),
            None if tls => tokio::task::spawn_blocking(|| urls(&SHARED_TLS, true)).await.expect("servers"),
            None => tokio::task::spawn_blocking(|| (SHARED_REDIS.url(), SHARED_POSTGRES.url())).await.expect("servers"),
        }
    }

    /// Starts the system and waits until all of it is ready.
    pub async fn start(self) -> System {
        match self.backend {
            Backend::RedisPostgres => self.start_distributed().await,
            Backend::Standalone => self.start_standalone().await,
        }
    }

    async fn start_distributed(self) -> System {
        let (redis, own) = self.urls().await;
        let postgres = self.database.clone().unwrap_or(own);
        let dir = dirs::fresh("system");
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut aggregators: Vec<Program> = (0..self.aggregators)
            .map(|number| {
                let consumer = format!("aggregator-{number}");
                let log = self.redis_of_each.get(number).unwrap_or(&redis);
                let mut args = words(&["run", "--redis-url", log, "--stream-prefix", &name, "--consumer", &consumer]);
                let database = self.postgres_of_each.get(number).or(self.postgres_proxy.as_ref()).unwrap_or(&postgres);
                args.extend(words(&["--database-url", database, "--database-schema", &name]));
                args.extend(self.aggregator_args.clone());
                Program::new(&consumer, "sluice-aggregator", args, &self.env_of_aggregators(), &dir)
            })
            .collect();
        let query = aggregators[0].base();
        let log = self.redis_proxy.as_ref().unwrap_or(&redis);
        let mut args = words(&["serve", "--redis-url", log, "--stream-prefix", &name, "--query-url", &query]);
        args.extend(self.publisher_args.clone());
        let mut publisher = Program::new("publisher", "sluice-publisher", args, &self.env, &dir);
        for program in aggregators.iter_mut().chain([&mut publisher]) {
            if let Some(folder) = &self.programs {
                program.take_from(folder);
            }
            program.launch();
        }
        let client = Client::new(&publisher.base());
        // The test itself reaches Redis without TLS.
        let stream = match (self.redis_at, &self.servers) {
            (Some((_, direct)), _) => direct,
            (None, Some(servers)) => servers.redis.url(),
            (None, None) if self.tls => SHARED_TLS.redis.url(),
            (None, None) => redis,
        };
        let store = StoreAddress::Postgres { url: postgres, schema: name.clone() };
        let mut system = System {
            backend: self.backend,
            client,
            publisher: Some(publisher),
            aggregators,
            servers: self.servers,
            store,
            stream: Some((stream, name)),
            dir,
        };
        for program in system.programs() {
            program.ready().await;
        }
        system
    }

    fn env_of_aggregators(&self) -> Vec<(String, String)> {
        let partition_rows = ("SLUICE_PARTITION_ROWS".to_owned(), PARTITION_ROWS.to_string());
        std::iter::once(partition_rows).chain(self.env.iter().cloned()).collect()
    }

    async fn start_standalone(self) -> System {
        let dir = dirs::fresh("standalone");
        let data = self.data.clone().unwrap_or_else(|| dir.join("data"));
        let mut args = words(&["standalone", "--data", &data.display().to_string()]);
        args.extend(self.publisher_args.iter().chain(&self.aggregator_args).cloned());
        let program = Program::new("standalone", "sluice-aggregator", args, &self.env_of_aggregators(), &dir);
        let mut system = System {
            backend: self.backend,
            client: Client::new(&program.base()),
            publisher: None,
            aggregators: vec![program],
            servers: None,
            store: StoreAddress::Sqlite(data.join("store.db")),
            stream: None,
            dir,
        };
        system.aggregators[0].start().await;
        system
    }
}

/// Starts a Redis and a Postgres that demand certificates of their clients.
fn servers_with_tls() -> OwnServers {
    let Ours { authority, server, .. } = ours();
    let redis = RedisServer::start_with_tls(server, Some(authority.ca()));
    let rules = format!("hostssl {DATABASE} all all trust clientcert=verify-ca\n");
    OwnServers { redis, postgres: PostgresServer::start_with_tls(server, authority.ca(), &rules) }
}

/// Returns the URLs of a Redis and a Postgres.
fn urls(servers: &OwnServers, tls: bool) -> (String, String) {
    if !tls {
        return (servers.redis.url(), servers.postgres.url());
    }
    let Ours { authority, client, .. } = ours();
    let [ca, cert, key] = [authority.ca(), &client.cert, &client.key].map(|file| file.display().to_string());
    let files = format!("sslrootcert={ca}&sslcert={cert}&sslkey={key}");
    (servers.redis.tls_url(), format!("{}?sslmode=verify-full&{files}", servers.postgres.url()))
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}
