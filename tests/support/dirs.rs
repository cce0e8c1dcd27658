//! Temporary directories that are removed after the test process, however it ends.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The directory of this run, and the pipe whose end tells the cleanup shell that the run is over.
struct Run {
    dir: PathBuf,
    _open_while_we_live: Option<ChildStdin>,
}

static RUN: LazyLock<Run> = LazyLock::new(|| start_run().expect("a temporary folder for the run"));
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Creates an empty directory in the directory of the run. Other users may enter it, because Postgres runs as
/// another user.
pub fn fresh(name: &str) -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = RUN.dir.join(format!("{number:03}-{name}"));
    fs::create_dir(&dir).expect("a temporary folder");
    open_to_others(&dir).expect("permissions of a temporary folder");
    dir
}

/// Statics are not dropped when a test process ends, and a killed process drops nothing at all. Therefore a shell
/// that outlives the process removes the directory, unless `SLUICE_TEST_KEEP=1` is set.
fn start_run() -> io::Result<Run> {
    let dir = tempfile::Builder::new().prefix("sluice-test-").tempdir()?.keep();
    open_to_others(&dir)?;
    if std::env::var_os("SLUICE_TEST_KEEP").is_some() {
        println!("keeping {}", dir.display());
        return Ok(Run { dir, _open_while_we_live: None });
    }
    // The servers end with this process, but not at the same instant: therefore the second attempt.
    let script = r#"cat >/dev/null; sleep 1; rm -rf "$1" || { sleep 5; rm -rf "$1"; }"#;
    let sweeper = Command::new("sh")
        .args(["-c", script, "sweeper"])
        .arg(&dir)
        // Ctrl-C is sent to the whole process group of the test, and must not reach the cleanup shell.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Run { dir, _open_while_we_live: sweeper.stdin })
}

fn open_to_others(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}
