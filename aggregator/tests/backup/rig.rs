//! A server with tables, a place for backups, and the two programs that work together as in a pod.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use sluice_store::postgres::{PostgresSettings, PostgresStore};
use sluice_tests::dirs;
use sluice_tests::postgres::{PostgresServer, program};
use sluice_tests::s3::{BUCKET, S3Server};
use sqlx::{Connection, PgConnection};

/// A place for backups.
pub struct Place {
    pub url: String,
    variables: Vec<(String, String)>,
    _server: Option<S3Server>,
}

impl Place {
    pub fn folder() -> (Self, PathBuf) {
        let folder = dirs::fresh("backups").join("shop");
        (Self { url: format!("file://{}", folder.display()), variables: Vec::new(), _server: None }, folder)
    }

    pub fn bucket() -> Self {
        let server = S3Server::start();
        let url = format!("s3://{BUCKET}/team/shop");
        Self { url, variables: server.variables().to_vec(), _server: Some(server) }
    }

    /// Returns the program with a subcommand of `backup` that uses this place.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-aggregator"));
        command.args(["backup", subcommand]).env("SLUICE_BACKUP_URL", &self.url).envs(self.variables.clone());
        command
    }

    /// Runs a subcommand with these options.
    pub fn run(&self, subcommand: &str, options: &[&str]) -> Output {
        self.command(subcommand).args(options).output().unwrap()
    }

    /// Returns the backups, the newest first.
    pub fn list(&self) -> Vec<Value> {
        let output = self.run("list", &["--format", "json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A server with some events and a table of random bytes, which cannot be compressed.
pub async fn server(random_mib: u32) -> PostgresServer {
    let server = tokio::task::block_in_place(|| PostgresServer::start(false));
    let settings = PostgresSettings { url: server.url(), ..PostgresSettings::default() };
    PostgresStore::connect(&settings).unwrap().migrate().await.unwrap();
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO sluice.counters (topic, shard, received, unique_processed, duplicate_dropped, conflicts) \
         VALUES ('t', 's', 70, 70, 0, 0); \
         INSERT INTO sluice.ledger (topic, shard, kind, events) VALUES ('t', 's', 'removed', 28); \
         CREATE TABLE sluice.noise (bytes bytea)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let fill = "INSERT INTO sluice.noise SELECT \
                (SELECT string_agg(uuid_send(gen_random_uuid()), '') FROM generate_series(1, 65536) WHERE m = m) \
                FROM generate_series(1, $1::int4) AS m";
    sqlx::query(fill).bind(random_mib.cast_signed()).execute(&mut connection).await.unwrap();
    server
}

/// Returns a hash of what is in the schema.
pub async fn content(server: &PostgresServer) -> (i64, String) {
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let select = "SELECT (SELECT sum(unique_processed)::int8 FROM sluice.counters), \
                  (SELECT coalesce(md5(string_agg(md5(bytes), '' ORDER BY md5(bytes))), '') FROM sluice.noise)";
    sqlx::query_as(select).fetch_one(&mut connection).await.unwrap()
}

/// The folder that the two containers of a pod share.
pub struct Shared {
    pub folder: PathBuf,
}

impl Shared {
    pub fn new() -> Self {
        let shared = Self::without_pipe();
        assert!(Command::new("mkfifo").arg(shared.path("dump")).status().unwrap().success());
        shared
    }

    /// Returns a folder in which a script makes the pipe.
    pub fn without_pipe() -> Self {
        Self { folder: dirs::fresh("shared") }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Writes the exit status of the other program.
    pub fn ended(&self, status: &str) {
        std::fs::write(self.folder.join("status"), format!("{status}\n")).unwrap();
    }

    /// Starts `backup store` as its container does.
    pub fn store(&self, place: &Place, server: &PostgresServer, options: &[&str]) -> Child {
        let (dump, status, ready) = (self.path("dump"), self.path("status"), self.path("ready"));
        let mut command = place.command("store");
        command.args(["--from", &dump, "--exit-status", &status, "--ready", &ready]);
        command.args(["--database-url", &server.url()]).args(options);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs pg_dump into the pipe, as the other container does.
    pub fn dump(&self, server: &PostgresServer) {
        let status = Command::new(program("pg_dump"))
            .args(["--format=custom", "--schema=sluice", "--dbname", &server.url()])
            .stdout(std::fs::OpenOptions::new().write(true).open(self.folder.join("dump")).unwrap())
            .status()
            .unwrap();
        self.ended(&status.code().unwrap().to_string());
    }

    pub fn exists(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }
}

/// Waits until a script has made the pipe.
pub fn wait_for_pipe(shared: &Shared) {
    sluice_tests::wait::wait_blocking("the pipe", std::time::Duration::from_secs(30), || {
        sluice_tests::wait::holds(shared.exists("dump"), String::new)
    });
}

/// Waits until the program of ours is ready.
pub fn wait_for_ready(shared: &Shared) {
    sluice_tests::wait::wait_blocking("the program is ready", std::time::Duration::from_secs(30), || {
        sluice_tests::wait::holds(shared.exists("ready"), String::new)
    });
}

/// Makes a backup, which must succeed; returns its manifest.
pub fn backup(place: &Place, server: &PostgresServer, options: &[&str]) -> Value {
    let shared = Shared::new();
    let report = shared.path("report");
    let store = shared.store(place, server, &[&["--report", &report], options].concat());
    shared.dump(server);
    let output = store.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap()
}

/// Waits for the end of a program that must fail; returns what it says.
pub fn failure(child: Child) -> String {
    said(&child.wait_with_output().unwrap())
}

/// Returns what a program says that has failed.
pub fn said(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
