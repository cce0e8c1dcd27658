//! The example `spooling_writer` as a process.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::wait::{holds, wait_until};

/// A running writer. It is killed when it is dropped.
pub struct Writer {
    child: Child,
    errors: PathBuf,
}

impl Writer {
    /// Starts a writer that sends events until it is killed, whose ids have this number. What it confirms is added to a file in
    /// `dir`.
    pub fn start(url: &str, spool: &Path, dir: &Path, run: usize) -> Self {
        Self::with(url, spool, dir, &[&format!("run-{run}")])
    }

    /// Sends all that is in the spool.
    pub async fn drain(url: &str, spool: &Path, dir: &Path) {
        let mut writer = Self::with(url, spool, dir, &["none", "120"]);
        wait_until("all that is in the spool is delivered", async || {
            let status = writer.child.try_wait().unwrap();
            assert!(status.is_none_or(|status| status.success()), "{}", writer.errors());
            holds(status.is_some(), ())
        })
        .await;
    }

    fn with(url: &str, spool: &Path, dir: &Path, arguments: &[&str]) -> Self {
        let open = |name| OpenOptions::new().create(true).append(true).open(dir.join(name)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(example("spooling_writer")).arg(url).arg(spool).args(arguments);
        command.stdin(Stdio::null()).stdout(open("confirmed")).stderr(open("errors"));
        Self { child: command.spawn().unwrap(), errors: dir.join("errors") }
    }

    /// Fails if it ended by itself.
    pub fn assert_runs(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the writer ended: {}", self.errors());
    }

    /// Sends `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        self.send_kill();
        self.child.wait().unwrap();
    }

    /// Sends `kill -9`.
    pub fn send_kill(&mut self) {
        self.child.kill().unwrap();
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the ids that writers confirmed.
pub fn confirmed(dir: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(dir.join("confirmed")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Returns the path of an example.
pub fn example(name: &str) -> PathBuf {
    // A test is target/debug/deps/client-….
    let path = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is missing: `cargo build -p sluice-client --examples`", path.display());
    path
}
