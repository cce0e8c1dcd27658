//! Tests the script that starts PostgreSQL, with stand-ins for the programs of the server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/controller/build/postgres.sh");
/// Much longer than the fast programs need, and much shorter than the slow program sleeps.
const SOON: Duration = Duration::from_secs(20);

/// Creates a directory that looks like a data directory, and sleeps if the file `slow` exists.
const INITDB: &str = r#"#!/bin/sh
echo "$@" >> "$CALLS"
while [ "$1" != -D ]; do
  if [ "$1" = -L ]; then grep huge_pages "$2/postgresql.conf.sample" >> "$CALLS"; fi
  shift
done
mkdir "$2" && echo 17 > "$2/PG_VERSION"
echo initdb >> "$TRACE"
if [ -e "$SLOW" ]; then exec sleep 300; fi
"#;
/// Records how it is called.
const POSTGRES: &str = r#"#!/bin/sh
echo "$@" >> "$CALLS"
case "$1" in
  --version) echo "postgres (PostgreSQL) $POSTGRES_MAJOR.4 (Debian $POSTGRES_MAJOR.4-1)" ;;
  --single) cat >> "$TRACE" ;;
  *) echo serves >> "$TRACE" ;;
esac
"#;
/// Prints the folder that `initdb` copies from.
const PG_CONFIG: &str = r#"#!/bin/sh
echo "$SHARE"
"#;

/// A temporary folder with the stand-in programs and the data directory.
struct Volume(PathBuf);

impl Volume {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::create_dir_all(folder.join("share")).unwrap();
        fs::create_dir_all(folder.join("tmp")).unwrap();
        fs::write(folder.join("share/postgresql.conf.sample"), "#huge_pages = try\t\t# on, off, or try\n").unwrap();
        for (name, text) in [("initdb", INITDB), ("postgres", POSTGRES), ("pg_config", PG_CONFIG)] {
            let program = folder.join("bin").join(name);
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Clears the trace and starts the script.
    fn start(&self) -> Child {
        self.start_version(17)
    }

    /// The same with another major version.
    fn start_version(&self, major: u32) -> Child {
        for record in ["trace", "calls"] {
            fs::write(self.path(record), "").unwrap();
        }
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command
            .arg(SCRIPT)
            .env("PATH", path)
            .env("PGDATA", self.path("pgdata"))
            .env("POSTGRES_MAJOR", major.to_string());
        command.env("CALLS", self.path("calls")).env("SHARE", self.path("share")).env("TMPDIR", self.path("tmp"));
        command.env("POSTGRES_PASSWORD", "it's").env("TRACE", self.path("trace")).env("SLOW", self.path("slow"));
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    /// Returns what the programs recorded since the start of the script, a line for each call or statement.
    fn trace(&self) -> Vec<String> {
        self.lines("trace")
    }

    fn lines(&self, record: &str) -> Vec<String> {
        fs::read_to_string(self.path(record)).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until `check` returns a value, and returns it.
fn soon<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the script ends.
fn ended(child: &mut Child) -> ExitStatus {
    soon("the script ends", || child.try_wait().unwrap())
}

#[test]
fn a_start_that_is_told_to_stop_ends_at_once_and_the_next_one_begins_anew() {
    let volume = Volume::new("stop");
    fs::write(volume.path("slow"), "").unwrap();
    let mut cut = volume.start();
    soon("initdb is running", || volume.trace().contains(&"initdb".to_owned()).then_some(()));
    assert!(Command::new("kill").arg(cut.id().to_string()).status().unwrap().success());
    // The script must exit by itself and not by the signal, so that the container reports its exit code.
    assert_eq!(ended(&mut cut).code(), Some(143));
    assert!(!volume.path("pgdata").exists(), "an incomplete data directory is not used");

    fs::remove_file(volume.path("slow")).unwrap();
    assert!(ended(&mut volume.start()).success());
    let password = "ALTER ROLE sluice PASSWORD 'it''s'";
    let made = ["initdb", "CREATE ROLE sluice LOGIN", "CREATE DATABASE sluice OWNER sluice", password, "serves"];
    assert_eq!(volume.trace(), made);
    assert!(volume.path("pgdata/PG_VERSION").exists() && !volume.path("pgdata.new").exists());

    assert!(ended(&mut volume.start()).success());
    assert_eq!(volume.trace(), [password, "serves"], "an existing data directory is used again");
}

/// A process that tries huge pages is killed on a node that has some and does not let the pod use them. Recovery after
/// a crash takes place in the single-user mode, so it must not need more memory than the server.
#[test]
fn no_process_of_a_start_uses_huge_pages_or_other_memory_than_the_server() {
    for major in [15, 16, 17] {
        let volume = Volume::new(&format!("pages-{major}"));
        assert!(ended(&mut volume.start_version(major)).success());
        let calls = volume.lines("calls");
        let config = format!("-c config_file={}/postgresql.conf", Path::new(SCRIPT).parent().unwrap().display());
        let servers: Vec<_> = calls.iter().filter(|call| call.contains("-D ") && !call.contains("initdb")).collect();
        let (initdb, servers): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|call| call.contains("--data-checksums"));
        assert_eq!(servers.len(), 3, "roles, password, server: {calls:#?}");
        assert!(servers.iter().all(|call| call.contains(&config)), "{calls:#?}");
        assert_eq!(initdb.len(), 1, "{calls:#?}");
        match major {
            15 => assert!(calls.iter().any(|call| call.starts_with("huge_pages = off")), "{calls:#?}"),
            _ => assert!(initdb[0].starts_with("--set huge_pages=off "), "{calls:#?}"),
        }
    }
    let config = fs::read_to_string(Path::new(SCRIPT).with_file_name("postgresql.conf")).unwrap();
    assert!(config.contains("\nhuge_pages = off\n"));
}
