//! The scripts that the operator gives to the containers of PostgreSQL, together with the program of ours beside them.

use std::process::{Command, Output};

use sluice_tests::postgres::{PostgresServer, program};
use sqlx::{Connection, PgConnection};

use crate::rig::{Place, Shared, content, server};

/// What a pod is given.
struct Pod<'a> {
    place: &'a Place,
    server: &'a PostgresServer,
    schema: &'static str,
    mode: &'static str,
    mark: &'static str,
    volume: u64,
}

impl<'a> Pod<'a> {
    fn new(place: &'a Place, server: &'a PostgresServer, mark: &'static str) -> Self {
        Self { place, server, schema: "sluice", mode: "replace", mark, volume: 8 << 30 }
    }

    fn script(&self, name: &str, shared: &Shared) -> Command {
        let mut script = Command::new("sh");
        script.arg(format!("{}/../operator/src/controller/build/{name}", env!("CARGO_MANIFEST_DIR")));
        let programs = program("pg_dump").parent().unwrap().display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
        let address = self.server.address();
        let (host, port) = address.split_once(':').unwrap();
        let (volume, log) = (self.volume.to_string(), shared.path("termination-log"));
        script.env("PATH", path).env("SHARED", &shared.folder).env("TERMINATION_LOG", log);
        script.envs([("PGHOST", host), ("PGPORT", port), ("PGUSER", "postgres"), ("PGDATABASE", "sluice")]);
        script.envs([("SCHEMA", self.schema), ("MODE", self.mode), ("MARK", self.mark), ("VOLUME_BYTES", &volume)]);
        script
    }

    /// Makes a backup, which must succeed.
    fn back_up(&self) {
        let shared = Shared::without_pipe();
        let mut dump = self.script("dump.sh", &shared).spawn().unwrap();
        let store = shared.store(self.place, self.server, &[]).wait_with_output().unwrap();
        assert!(store.status.success(), "{store:?}");
        assert!(dump.wait().unwrap().success());
    }

    /// Restores the newest backup; returns how the script ended, and the message with which its container ends.
    fn restore(&self) -> (Output, String) {
        let shared = Shared::without_pipe();
        let [dump, status, ready, manifest] = ["dump", "status", "ready", "manifest"].map(|name| shared.path(name));
        let options = ["--to", &dump, "--exit-status", &status, "--ready", &ready, "--report", &manifest];
        // As in a pod, where either container may be the first.
        let mut fetch = self.place.command("fetch").args(options).args(["--idle-timeout", "20s"]).spawn().unwrap();
        crate::rig::wait_for_ready(&shared);
        let script = self.script("restore.sh", &shared).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let output = script.wait_with_output().unwrap();
        let fetched = fetch.wait().unwrap();
        assert!(!output.status.success() || fetched.success(), "a Job succeeds only if both containers do");
        (output, std::fs::read_to_string(shared.path("termination-log")).unwrap_or_default())
    }
}

async fn execute(server: &PostgresServer, sql: &'static str) {
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

async fn unique(server: &PostgresServer, table: &'static str) -> Option<i64> {
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let select = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT sum(unique_processed)::int8 FROM {table}")));
    select.fetch_one(&mut connection).await.ok()
}

const LATER: &str = "UPDATE sluice.counters SET unique_processed = unique_processed + 30";

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_exchanges_the_schema_once_and_keeps_the_former_one() {
    let (place, _) = Place::folder();
    let server = server(1).await;
    let pod = Pod::new(&place, &server, "sluice restored one");
    tokio::task::block_in_place(|| pod.back_up());
    let backup = content(&server).await;
    execute(&server, LATER).await;
    let (output, said) = tokio::task::block_in_place(|| pod.restore());
    assert!(output.status.success() && said.contains("is restored"), "{output:?}");
    assert_eq!(content(&server).await, backup);
    assert_eq!(unique(&server, "sluice_old.counters").await, Some(100), "what was there is kept");

    execute(&server, LATER).await;
    let (output, said) = tokio::task::block_in_place(|| pod.restore());
    assert!(output.status.success() && said.contains("restored already"), "{output:?}");
    assert_eq!(unique(&server, "sluice.counters").await, Some(100), "a Job that is repeated restores nothing twice");

    let again = Pod { mark: "sluice restored one again", ..pod };
    let (output, _) = tokio::task::block_in_place(|| again.restore());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(content(&server).await, backup, "another mark is another restore");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_leaves_what_was_there_and_says_why() {
    let (place, folder) = Place::folder();
    let server = server(2).await;
    let pod = Pod::new(&place, &server, "sluice restored one");
    tokio::task::block_in_place(|| pod.back_up());
    execute(&server, LATER).await;
    let before = content(&server).await;

    let small = Pod { volume: 100 << 20, ..Pod::new(&place, &server, "sluice restored one") };
    let (output, said) = tokio::task::block_in_place(|| small.restore());
    assert!(!output.status.success() && said.contains("spec.postgres.managed.storage.size"), "{said}");

    // The last byte is changed, so all of it is read before that is found.
    let dump = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
    let dump = dump.into_iter().find(|path| path.extension().is_some_and(|end| end == "dump")).unwrap();
    let good = std::fs::read(&dump).unwrap();
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&dump, bytes).unwrap();
    let (output, said) = tokio::task::block_in_place(|| pod.restore());
    assert!(!output.status.success() && said.contains("what was there has stayed"), "{said}");
    assert_eq!(content(&server).await, before);
    assert_eq!(unique(&server, "sluice_old.counters").await, None);

    std::fs::write(&dump, good).unwrap();
    let (output, _) = tokio::task::block_in_place(|| pod.restore());
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_resource_gets_the_tables_under_its_own_schema_and_only_if_it_has_none() {
    let (place, _) = Place::folder();
    let old = server(1).await;
    tokio::task::block_in_place(|| Pod::new(&place, &old, "").back_up());
    let new = tokio::task::block_in_place(|| PostgresServer::start(false));
    let pod = Pod { schema: "sluice_copy", mode: "new", ..Pod::new(&place, &new, "sluice restored from") };
    let (output, said) = tokio::task::block_in_place(|| pod.restore());
    assert!(output.status.success() && said.contains("with what was stored until"), "{output:?}");
    assert_eq!(unique(&new, "sluice_copy.counters").await, Some(70));

    let other = Pod { mode: "new", ..Pod::new(&place, &old, "sluice restored from") };
    execute(&old, LATER).await;
    let (output, said) = tokio::task::block_in_place(|| other.restore());
    assert!(output.status.success() && said.contains("nothing was restored"), "{output:?}");
    assert_eq!(unique(&old, "sluice.counters").await, Some(100));
}

#[test]
fn a_dump_of_a_server_that_does_not_answer_is_not_stored() {
    let shared = Shared::without_pipe();
    let mut dump = Command::new("sh");
    dump.arg(format!("{}/../operator/src/controller/build/dump.sh", env!("CARGO_MANIFEST_DIR")));
    let path = format!("{}:{}", program("pg_dump").parent().unwrap().display(), std::env::var("PATH").unwrap());
    dump.env("PATH", path).env("SHARED", &shared.folder).env("SCHEMA", "sluice");
    dump.envs([("PGHOST", "127.0.0.1"), ("PGPORT", "1"), ("PGUSER", "x"), ("PGDATABASE", "x")]);
    let dump = dump.spawn().unwrap();
    crate::rig::wait_for_pipe(&shared);
    std::fs::write(shared.path("ready"), "ready\n").unwrap();
    let read = std::fs::read(shared.path("dump")).unwrap();
    assert!(read.is_empty() && !dump.wait_with_output().unwrap().status.success());
    assert_ne!(std::fs::read_to_string(shared.path("status")).unwrap(), "0\n");
}

#[test]
fn neither_script_waits_for_a_program_that_has_failed() {
    for name in ["dump.sh", "restore.sh"] {
        let shared = Shared::without_pipe();
        std::fs::write(shared.path("ready"), "failed\n").unwrap();
        let mut script = Command::new("sh");
        script.arg(format!("{}/../operator/src/controller/build/{name}", env!("CARGO_MANIFEST_DIR")));
        let output = script.env("SHARED", &shared.folder).env("TERMINATION_LOG", "/dev/null").output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0), "{name}: the other one says why");
    }
}
