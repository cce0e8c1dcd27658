//! A system in which every fault of a schedule can be caused and put right.

use std::time::{Duration, Instant};

use redis::AsyncCommands;
use sluice_tests::program::Program;
use sluice_tests::proxy::Cut;
use sluice_tests::proxy::link::{Link, Network};
use sluice_tests::proxy::postgres::PostgresProxy;
use sluice_tests::proxy::redis::RedisProxy;
use sluice_tests::system::OwnServers;
use sluice_tests::{Backend, Setup, System, TableLock, wait_until};
use sqlx::{Connection, Executor, PgConnection};

use crate::soak::schedule::{Fault, Path, Planned, Process, REPLICAS, Round};
use crate::standalone::WriteLock;
use crate::trial::SOON;

/// The time after which another replica claims a pending entry. It is short, so that this happens often.
const CLAIM_AFTER: &str = "3s";
/// How long the publisher repeats an append. It is shorter than most faults, so that requests fail.
pub const APPEND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a program may take to end in order.
const SHUTDOWN_TIMEOUT: &str = "5s";
/// After this time a program that was told to end has ended, or the test fails. The difference to the timeout is for
/// a busy machine.
const END: Duration = Duration::from_secs(60);
/// How long a fault may take to be caused, because another fault can make it impossible.
const PATIENCE: Duration = Duration::from_secs(2);

/// A system with everything between its parts that faults need.
#[derive(Debug)]
pub struct Rig {
    /// The system.
    pub system: System,
    clients: Link,
    network: Option<Paths>,
    table_lock: Option<TableLock>,
    file_lock: Option<WriteLock>,
    released: Vec<WriteLock>,
    is_refusing: bool,
}

/// What lies between the programs and the servers.
#[derive(Debug)]
struct Paths {
    publisher_to_redis: Link,
    to_redis: Vec<Link>,
    to_postgres: Vec<Link>,
    redis: RedisProxy,
    postgres: PostgresProxy,
}

impl Paths {
    /// Returns the numbers of appends that were cut, commits that were cut, and COPY statements that were stalled.
    fn cuts(&self) -> [u64; 3] {
        [self.redis.cuts(), self.postgres.cuts(), self.postgres.stalled()]
    }
}

impl Rig {
    /// Starts a system.
    pub async fn start(backend: Backend) -> Self {
        let setup = Setup::new(backend)
            .publisher("--append-timeout", &format!("{}s", APPEND_TIMEOUT.as_secs()))
            .aggregator("--shutdown-timeout", SHUTDOWN_TIMEOUT);
        let (mut system, network) = match backend {
            Backend::Standalone => (setup.start().await, None),
            Backend::RedisPostgres => start_cluster(setup.publisher("--shutdown-timeout", SHUTDOWN_TIMEOUT)).await,
        };
        let address = system.base().replace("http://", "");
        let clients = Link::start(&address).await;
        if backend == Backend::RedisPostgres {
            system.aggregators[REPLICAS].terminate();
        }
        Self { system, clients, network, table_lock: None, file_lock: None, released: Vec::new(), is_refusing: false }
    }

    /// Returns the addresses for clients: over the network that fails, and without it, where a process that is
    /// away refuses connections.
    pub fn bases(&self) -> [String; 2] {
        [format!("http://{}", self.clients.address()), self.system.base()]
    }

    /// Causes the faults of a round and puts them right. Returns what was done and when.
    pub async fn play(&mut self, round: &Round) -> Vec<String> {
        let begins = round.faults.iter().map(|planned| (planned.at, true, planned));
        let ends = round.faults.iter().map(|planned| (planned.until, false, planned));
        let mut steps: Vec<_> = begins.chain(ends).collect();
        steps.sort_by_key(|(at, begins, _)| (*at, *begins));
        let start = Instant::now();
        let mut done = Vec::new();
        for (at, begins, Planned { fault, .. }) in steps {
            tokio::time::sleep(at.saturating_sub(start.elapsed())).await;
            let now = start.elapsed().as_secs_f64();
            let what = if begins { "begin" } else { "end" };
            let result = if begins { self.begin(*fault).await } else { self.end(*fault).await };
            let note = result.err().map_or(String::new(), |reason| format!(": not possible: {reason}"));
            let cuts = self.network.as_ref().map_or([0; 3], Paths::cuts);
            done.push(format!("  {now:>5.2} s  {what:<5}  {fault:?}{note}; cut and stalled since the start: {cuts:?}"));
        }
        done
    }

    /// Puts everything right that is not, and waits until all programs are ready.
    pub async fn heal(&mut self) {
        self.clients.set(Network::Open);
        if let Some(paths) = &self.network {
            let links = paths.to_redis.iter().chain(&paths.to_postgres).chain([&paths.publisher_to_redis]);
            links.for_each(|link| link.set(Network::Open));
            paths.redis.arm(0);
            paths.postgres.arm(0);
            paths.postgres.stall_copies(0);
            paths.redis.lose_responses();
            paths.postgres.lose_responses();
        }
        self.table_lock = None;
        if self.system.servers.is_some() {
            self.revive(Process::Redis);
            self.revive(Process::Postgres);
        }
        if self.is_refusing {
            wait_until("Postgres takes connections to the database", SOON, || async {
                allow_connections(self.servers(), true).await
            })
            .await;
            self.is_refusing = false;
        }
        for program in self.system.programs() {
            if program.runs() {
                program.ready().await;
            }
        }
        self.released.clear();
    }

    async fn begin(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill(process) => self.kill(process),
            Fault::KillAggregators => {
                (0..REPLICAS).for_each(|number| self.kill(Process::Aggregator(number)));
            }
            Fault::Freeze(process) => self.freeze(process, true),
            Fault::Restart(process) => self.stop(process),
            Fault::MoreAggregators => self.system.aggregators[REPLICAS].launch(),
            Fault::Network(path, network) | Fault::Loss(path, network) => self.link(path).set(network),
            Fault::CutAppends(side, times) => self.paths().redis.arm_on(side, times),
            Fault::CutCommits(side, times) => self.paths().postgres.arm_on(side, times),
            Fault::LoseAppendAnswers => self.paths().redis.hold_responses(),
            Fault::LoseCommitAnswers => self.paths().postgres.hold_responses(),
            Fault::StallCopies(times) => self.paths().postgres.stall_copies(times),
            Fault::LoseGroup => return within(self.lose_group()).await,
            Fault::RefuseConnections => {
                self.is_refusing = true;
                return within(allow_connections(self.servers(), false)).await;
            }
            Fault::LockEvents => {
                let lock = async { Ok(TableLock::take(&self.system.store).await) };
                self.table_lock = Some(within(lock).await?);
            }
            Fault::LockFile { is_log } => {
                let file = self.system.dir.join("data").join(if is_log { "log.db" } else { "store.db" });
                let lock = WriteLock::take_within(PATIENCE / 2, &file).await;
                self.file_lock = Some(lock.map_err(|error| error.to_string())?);
            }
        }
        Ok(())
    }

    async fn end(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill(process) | Fault::Restart(process) => self.revive(process),
            Fault::KillAggregators => (0..REPLICAS).for_each(|number| self.revive(Process::Aggregator(number))),
            Fault::Freeze(process) => self.freeze(process, false),
            Fault::MoreAggregators => {
                let program = &mut self.system.aggregators[REPLICAS];
                program.ask_to_stop();
                stopped(program);
            }
            Fault::Network(path, _) => self.link(path).set(Network::Open),
            Fault::Loss(path, _) => {
                self.link(path).reset();
                self.link(path).set(Network::Open);
            }
            Fault::CutAppends(..) => self.paths().redis.arm(0),
            Fault::CutCommits(..) => self.paths().postgres.arm(0),
            Fault::LoseAppendAnswers => self.paths().redis.lose_responses(),
            Fault::LoseCommitAnswers => self.paths().postgres.lose_responses(),
            Fault::StallCopies(_) => self.paths().postgres.stall_copies(0),
            Fault::LoseGroup => {}
            Fault::RefuseConnections => {
                within(allow_connections(self.servers(), true)).await?;
                self.is_refusing = false;
            }
            // The end of its connection releases the lock, even if the server cannot answer now.
            Fault::LockEvents => self.table_lock = None,
            Fault::LockFile { .. } => {
                // The connection stays open until all is healed: the process under test alone must move the
                // write-ahead log into the database.
                if let Some(mut lock) = self.file_lock.take() {
                    lock.release().await;
                    self.released.push(lock);
                }
            }
        }
        Ok(())
    }

    fn paths(&self) -> &Paths {
        self.network.as_ref().expect("a system with servers")
    }

    fn servers(&self) -> &OwnServers {
        self.system.servers.as_ref().expect("a system with servers")
    }

    fn link(&self, path: Path) -> &Link {
        match path {
            Path::Clients => &self.clients,
            Path::PublisherToRedis => &self.paths().publisher_to_redis,
            Path::AggregatorToRedis(number) => &self.paths().to_redis[number],
            Path::AggregatorToPostgres(number) => &self.paths().to_postgres[number],
        }
    }

    fn kill(&mut self, process: Process) {
        let system = &mut self.system;
        match process {
            Process::Publisher => system.publisher.as_mut().expect("a publisher").kill(),
            Process::Aggregator(number) => system.aggregators[number].kill(),
            Process::Redis => system.servers.as_mut().expect("servers").redis.kill(),
            Process::Postgres => system.servers.as_mut().expect("servers").postgres.kill(),
        }
    }

    /// Ends a process in order. The programs end while other faults come.
    fn stop(&mut self, process: Process) {
        let system = &mut self.system;
        match process {
            Process::Publisher => system.publisher.as_ref().expect("a publisher").ask_to_stop(),
            Process::Aggregator(number) => system.aggregators[number].ask_to_stop(),
            Process::Redis => blocking(|| system.servers.as_mut().expect("servers").redis.terminate()),
            Process::Postgres => blocking(|| system.servers.as_mut().expect("servers").postgres.terminate()),
        }
    }

    /// Starts a process that was killed or told to end. The programs are not waited for.
    fn revive(&mut self, process: Process) {
        let system = &mut self.system;
        match process {
            Process::Publisher => restart(system.publisher.as_mut().expect("a publisher")),
            Process::Aggregator(number) => restart(&mut system.aggregators[number]),
            Process::Redis => blocking(|| {
                let redis = &mut system.servers.as_mut().expect("servers").redis;
                if !redis.runs() {
                    redis.start_again();
                }
            }),
            Process::Postgres => blocking(|| {
                let postgres = &mut system.servers.as_mut().expect("servers").postgres;
                if !postgres.runs() {
                    postgres.start_again();
                }
            }),
        }
    }

    fn freeze(&mut self, process: Process, stops: bool) {
        use rustix::process::Signal;
        let signal = if stops { Signal::STOP } else { Signal::CONT };
        let system = &self.system;
        match process {
            Process::Publisher => system.publisher.as_ref().expect("a publisher").process().signal(signal),
            Process::Aggregator(number) => system.aggregators[number].process().signal(signal),
            Process::Redis => self.servers().redis.process().signal(signal),
            Process::Postgres if stops => self.servers().postgres.freeze(),
            Process::Postgres => self.servers().postgres.thaw(),
        }
    }

    async fn lose_group(&self) -> Result<(), String> {
        let (url, prefix) = self.system.stream.clone().expect("a system with Redis");
        let mut connection = sluice_tests::redis::connect(&url).await.map_err(|error| error.to_string())?;
        let key = format!("{prefix}:{{0}}");
        let gone: bool = connection.xgroup_destroy(key, "aggregators").await.map_err(|error| error.to_string())?;
        if gone { Ok(()) } else { Err("there was no group".to_owned()) }
    }
}

/// Starts a publisher and aggregators with a path of its own for each.
async fn start_cluster(setup: Setup) -> (System, Option<Paths>) {
    let setup = setup.aggregators(REPLICAS + 1).replica("--claim-after", CLAIM_AFTER).own_servers().await;
    let redis = RedisProxy::start(&setup.servers().redis.address(), Cut::After).await;
    let postgres = PostgresProxy::start(&setup.servers().postgres.address(), Cut::After).await;
    let publisher_to_redis = Link::start(redis.address()).await;
    let (mut to_redis, mut to_postgres) = (Vec::new(), Vec::new());
    for _ in 0..=REPLICAS {
        to_redis.push(Link::start(&setup.servers().redis.address()).await);
        to_postgres.push(Link::start(postgres.address()).await);
    }
    let system = setup
        .redis_through(publisher_to_redis.address())
        .each_aggregator_through(
            &to_redis.iter().map(Link::address).collect::<Vec<_>>(),
            &to_postgres.iter().map(Link::address).collect::<Vec<_>>(),
        )
        .start()
        .await;
    (system, Some(Paths { publisher_to_redis, to_redis, to_postgres, redis, postgres }))
}

/// Allows or forbids connections to the database, and ends those that exist when it forbids them.
async fn allow_connections(servers: &OwnServers, allow: bool) -> Result<(), String> {
    let sql = if allow {
        "ALTER DATABASE sluice ALLOW_CONNECTIONS true"
    } else {
        "ALTER DATABASE sluice ALLOW_CONNECTIONS false; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'sluice'"
    };
    let url = servers.postgres.maintenance_url();
    let mut connection = PgConnection::connect(&url).await.map_err(|error| error.to_string())?;
    connection.execute(sqlx::raw_sql(sql)).await.map_err(|error| error.to_string())?;
    Ok(())
}

/// Returns the result, or an error if it takes too long because of another fault.
async fn within<T>(result: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(PATIENCE, result).await.unwrap_or_else(|_| Err(format!("not done within {PATIENCE:?}")))
}

/// Starts a program that was killed, or that was told to end and will.
fn restart(program: &mut Program) {
    if program.runs() {
        stopped(program);
    }
    program.launch();
}

/// Waits for the end of a program that was told to end. Its exit code is not compared: it is 1 if other faults, or a
/// busy machine, keep it from finishing its work within the timeout.
fn stopped(program: &mut Program) {
    assert!(blocking(|| program.stopped(END)).is_some(), "{} does not end on SIGTERM", program.name());
}

/// Runs what blocks its thread. The other tasks move to other threads.
fn blocking<T>(run: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(run)
}
