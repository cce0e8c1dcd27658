//! A PostgreSQL server of our own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::certificates::Identity;
use crate::process::{Process, command, tail};
use crate::wait::wait_blocking;
use crate::{dirs, ports};

/// The database of the system under test. The database `postgres` on the same server is for the tests.
pub const DATABASE: &str = "sluice";

/// A new cluster, created once per run and copied for each server, because initdb takes seconds.
static TEMPLATE: LazyLock<PathBuf> = LazyLock::new(make_template);

/// A PostgreSQL server whose data survives [`PostgresServer::kill`] and [`PostgresServer::start_again`].
#[derive(Debug)]
pub struct PostgresServer {
    data: PathBuf,
    log: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl PostgresServer {
    /// Starts a server with an empty database. `fsync` is on as in production, or off for tests that kill
    /// nothing.
    pub fn start(fsync: bool) -> Self {
        Self::start_with(&format!("fsync = {}\n", if fsync { "on" } else { "off" }))
    }

    /// Starts a server with an empty database and these settings, one on each line, which override ours.
    pub fn start_with(settings: &str) -> Self {
        Self::prepare_in(&dirs::fresh("postgres"), settings).started()
    }

    /// Starts a server with these lines of `pg_hba.conf`, which say who may connect, and how.
    pub fn start_with_rules(rules: &str) -> Self {
        let server = Self::prepare_in(&dirs::fresh("postgres"), "fsync = on\n");
        std::fs::write(server.data.join("pg_hba.conf"), rules).expect("the rules");
        server.started()
    }

    /// Starts a server that offers TLS with this certificate, and checks certificates of clients against this CA.
    /// `rules` are the lines of `pg_hba.conf`, which say who may connect, and how.
    pub fn start_with_tls(identity: &Identity, client_ca: &Path, rules: &str) -> Self {
        let settings = format!(
            "fsync = off\nssl = on\nssl_cert_file = '{}'\nssl_key_file = 'server.key'\nssl_ca_file = '{}'\n",
            identity.cert.display(),
            client_ca.display(),
        );
        let server = Self::prepare_in(&dirs::fresh("postgres"), &settings);
        // The server refuses a key that others can read, so it gets a copy of its own.
        let mut copy = Command::new("install");
        copy.args(["-m", "600"]).args(server_user().map(|user| ["-o", user]).into_iter().flatten());
        run(copy.arg(&identity.key).arg(server.data.join("server.key")));
        std::fs::write(server.data.join("pg_hba.conf"), rules).expect("the rules");
        server.started()
    }

    /// Prepares a server that is not started, with an empty database in `data` in this directory, which can be on
    /// a disk of the test. The log is elsewhere.
    pub fn prepare_in(dir: &Path, settings: &str) -> Self {
        let data = dir.join("data");
        run(Command::new("cp").arg("-a").arg(&*TEMPLATE).arg(&data));
        let log = dirs::fresh("postgres-log").join("postgres.log");
        let server = Self { data, log, port: ports::free(), process: None };
        server.configure(settings);
        server
    }

    /// Gives every page of a server that does not run a checksum, which is checked when a page is read.
    pub fn with_checksums(self) -> Self {
        let mut enable = command(&program("pg_checksums"), server_user());
        run(enable.args(["--enable", "--no-sync", "-D"]).arg(&self.data));
        self
    }

    /// Starts a prepared server.
    pub fn started(mut self) -> Self {
        self.start_again();
        self
    }

    /// Starts the server again with its data on the same port, and waits until it accepts connections.
    pub fn start_again(&mut self) {
        self.try_start_again().unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Like [`PostgresServer::start_again`], for data with which the server may refuse to start.
    ///
    /// # Errors
    /// The end of its log if it has ended instead of accepting connections.
    pub fn try_start_again(&mut self) -> Result<(), String> {
        let args = ["-D".to_owned(), self.data.display().to_string()];
        let log = self.log.clone();
        let start = || Process::start(&program("postgres"), &args, &[], server_user(), &log);
        let mut process = start();
        wait_blocking("Postgres takes connections", Duration::from_secs(120), || {
            if let Some(status) = process.exited() {
                let last = tail(&log, 2);
                // The kernel may need a moment to end the processes of a server that was killed.
                if last.contains("pre-existing shared memory block") {
                    process = start();
                    return Err(last);
                }
                return Ok(Err(format!("postgres ended with {status}:\n{}", tail(&log, 30))));
            }
            let mut ready = Command::new(program("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if ready.status().is_ok_and(|s| s.success()) { Ok(Ok(())) } else { Err(tail(&log, 3)) }
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Sends `kill -9` to the server and all its backends, as if the machine failed. The postmaster is stopped
    /// first, so that it cannot notice the end of its children and close connections in order.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("Postgres runs");
        process.send_kill();
        process.kill();
    }

    /// Whether it was started and not stopped by the test.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Sends SIGINT, on which it ends all connections and itself, and waits for the end. Fails when it takes longer
    /// than a minute.
    pub fn terminate(&mut self) {
        let mut process = self.process.take().expect("Postgres runs");
        process.signal(Signal::INT);
        assert!(process.ended(Duration::from_secs(60)).is_some(), "Postgres does not end on SIGINT");
    }

    /// Sends SIGSTOP to the server and all its backends.
    pub fn freeze(&self) {
        self.process().signal(Signal::STOP);
        self.signal_children(Signal::STOP);
    }

    /// Sends SIGCONT to the server and all its backends.
    pub fn thaw(&self) {
        self.signal_children(Signal::CONT);
        self.process().signal(Signal::CONT);
    }

    /// Returns a running standby that has all data of this server, and receives what is written to it from now on,
    /// without this server waiting for it.
    pub fn standby(&self) -> Self {
        let dir = dirs::fresh("standby");
        let standby =
            Self { data: dir.join("data"), log: dir.join("postgres.log"), port: ports::free(), process: None };
        self.back_up(&standby.data);
        std::fs::write(standby.data.join("standby.signal"), "").expect("the signal file");
        standby.configure(&format!(
            "primary_conninfo = 'host=127.0.0.1 port={} user=postgres'
",
            self.port
        ));
        standby.started()
    }

    /// Copies the data of this server, while it runs, into a directory that does not exist.
    pub fn back_up(&self, data: &Path) {
        if let Some(user) = server_user() {
            run(Command::new("chown").arg(format!("{user}:")).arg(data.parent().expect("a folder")));
        }
        // pg_basebackup does the same, but needs a program of the server's own version, which not every package has. The
        // log of the server is left out: the copy gets it from the server.
        let (from, to) = (self.data.display(), data.display());
        let copy = format!("\\! cp -a '{from}' '{to}'; rm -f '{to}/postmaster.pid' '{to}'/pg_wal/0*");
        let label = format!("\\o '{to}/backup_label'");
        let steps =
            ["SELECT pg_backup_start('copy', true)", &copy, &label, "SELECT labelfile FROM pg_backup_stop(false)"];
        let mut backup = command(&program("psql"), server_user());
        backup.args(["-h", "127.0.0.1", "-U", "postgres", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-p"]);
        run(backup.arg(self.port.to_string()).args(steps.iter().flat_map(|step| ["-c", step])));
    }

    /// Sends SIGSTOP to the processes that send this server's data to standbys.
    pub fn freeze_replication(&self) {
        let is_sender = |child: &rustix::process::Pid| {
            let title = std::fs::read(format!("/proc/{}/cmdline", child.as_raw_nonzero())).unwrap_or_default();
            String::from_utf8_lossy(&title).contains("walsender")
        };
        let senders: Vec<_> = self.process().children().into_iter().filter(is_sender).collect();
        assert!(!senders.is_empty(), "no standby receives data of this server");
        for sender in senders {
            let _ = kill_process(sender, Signal::STOP);
        }
    }

    /// Promotes this standby, so that it accepts writes.
    pub fn promote(&mut self) {
        let mut promote = command(&program("pg_ctl"), server_user());
        run(promote.args(["promote", "-w", "-t", "120", "-D"]).arg(&self.data));
    }

    /// Lets a standby of this server, which has ended, take over: it is promoted, and serves at this server's address.
    pub fn fail_over_to(&mut self, mut standby: Self) {
        standby.promote();
        self.replace_by(standby);
    }

    /// Starts this server, which has ended, with the data of another one, which ends.
    pub fn replace_by(&mut self, mut other: Self) {
        assert!(self.process.is_none(), "the server runs");
        other.terminate();
        self.data.clone_from(&other.data);
        self.configure("");
        self.start_again();
    }

    /// Dumps the database under test into a file, while the server runs.
    pub fn dump(&self, file: &Path) {
        let mut dump = Command::new(program("pg_dump"));
        run(dump.args(["--format=custom", "--dbname", &self.url(), "--file"]).arg(file));
    }

    /// Starts another server with what is in a dump.
    pub fn restored_from(dump: &Path) -> Self {
        let server = Self::start(true);
        // pg_restore may be newer than the server, which does not know this setting before PostgreSQL 17.
        let script = "set -o pipefail; \"$1\" --file=- \"$2\" | grep -v '^SET transaction_timeout = ' |
            \"$3\" --quiet --output=/dev/null --set=ON_ERROR_STOP=1 \"$4\"";
        let mut restore = Command::new("bash");
        restore.args(["-c", script, "restore"]).arg(program("pg_restore")).arg(dump);
        run(restore.arg(program("psql")).arg(server.url()));
        server
    }

    fn signal_children(&self, signal: Signal) {
        for child in self.process().children() {
            let _ = kill_process(child, signal);
        }
    }

    /// Returns the first process, the parent of the others, while it runs.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("Postgres runs")
    }

    /// Returns the URL of the database under test.
    pub fn url(&self) -> String {
        url_of(&self.address(), DATABASE)
    }

    /// Returns the URL of the other database, over which connections to the one under test can be forbidden.
    pub fn maintenance_url(&self) -> String {
        url_of(&self.address(), "postgres")
    }

    /// Returns the address, for a proxy.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn configure(&self, settings: &str) {
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\nmax_connections = 300\n\
             shared_buffers = 64MB\nlog_min_messages = warning\nlog_line_prefix = '%m [%p] '\n{settings}",
            self.port,
        );
        std::fs::write(self.data.join("postgresql.auto.conf"), settings).expect("the server's settings");
    }
}

/// Returns a connection URL.
pub fn url_of(address: &str, database: &str) -> String {
    format!("postgres://postgres@{address}/{database}")
}

/// Returns the user of the server, because Postgres refuses to run as root.
pub(crate) fn server_user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("postgres")
}

fn make_template() -> PathBuf {
    let dir = dirs::fresh("postgres-template");
    if let Some(user) = server_user() {
        run(Command::new("chown").arg(format!("{user}:")).arg(&dir));
    }
    let data = dir.join("data");
    run(command(&program("initdb"), server_user())
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync", "-D"])
        .arg(&data));
    // Creates the database without starting a server: one statement in single-user mode.
    let script = format!("echo 'CREATE DATABASE {DATABASE}' | exec \"$@\"");
    run(command(Path::new("sh"), server_user())
        .args(["-c", &script, "single"])
        .arg(program("postgres"))
        .args(["--single", "-D"])
        .arg(&data)
        .arg("postgres"));
    data
}

/// Returns a program of PostgreSQL: from `SLUICE_PG_BIN`, from the directory of Debian (the newest version), or
/// from the `PATH`. Some packages of a server do not have its clients: those of another version do as well.
pub fn program(name: &str) -> PathBuf {
    static BIN: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let newest = versions.filter_map(|v| v.file_name().to_str()?.parse::<u32>().ok()).max()?;
        Some(format!("/usr/lib/postgresql/{newest}/bin").into())
    });
    let chosen = std::env::var_os("SLUICE_PG_BIN").map(|dir| Path::new(&dir).join(name)).filter(|path| path.exists());
    chosen.unwrap_or_else(|| BIN.as_ref().map_or_else(|| name.into(), |dir| dir.join(name)))
}

pub(crate) fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr)),
        Err(e) => panic!("{command:?}: {e}; `make setup` says what to install"),
    }
}
