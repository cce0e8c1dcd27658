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
mkdir "$2" && echo 17 > "$2/PG_VERSION"
echo initdb >> "$TRACE"
if [ -e "$SLOW" ]; then exec sleep 300; fi
"#;
/// Records how it is called.
const POSTGRES: &str = r#"#!/bin/sh
case "$1" in
  --version) echo 'postgres (PostgreSQL) 17.4 (Debian 17.4-1)' ;;
  --single) cat >> "$TRACE" ;;
  *) echo serves >> "$TRACE" ;;
esac
"#;

/// A temporary folder with the stand-in programs and the data directory.
struct Volume(PathBuf);

impl Volume {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{}", std::process::id()));
        fs::create_dir_all(folder.join("bin")).unwrap();
        for (name, text) in [("initdb", INITDB), ("postgres", POSTGRES)] {
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
        fs::write(self.path("trace"), "").unwrap();
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.arg(SCRIPT).env("PATH", path).env("PGDATA", self.path("pgdata")).env("POSTGRES_MAJOR", "17");
        command.env("POSTGRES_PASSWORD", "it's").env("TRACE", self.path("trace")).env("SLOW", self.path("slow"));
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    /// Returns what the programs recorded since the start of the script, a line for each call or statement.
    fn trace(&self) -> Vec<String> {
        fs::read_to_string(self.path("trace")).unwrap().lines().map(str::to_owned).collect()
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
    let volume = Volume::new();
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
