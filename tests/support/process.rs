//! Child processes that never outlive the test process.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A request to the thread that starts processes.
type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// The kernel sends a child its parent-death signal when the *thread* that started it ends, and every test has
/// threads of its own. Therefore a single thread, which ends with the process, starts all children.
static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel::<Job>();
    std::thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            for (mut command, answer) in queue {
                let _ = answer.send(command.spawn());
            }
        })
        .expect("a thread that starts processes");
    jobs
});

/// A running child process with its output in a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with its output appended to `log`, as `user` if one is given.
    pub fn start(program: &Path, args: &[String], env: &[(String, String)], user: Option<&str>, log: &Path) -> Self {
        let mut command = command(program, user);
        let output = log_file(log).expect("a log file");
        command
            .args(args)
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a second handle"))
            .stdout(output);
        let (answer, answered) = mpsc::channel();
        SPAWNER.send((command, answer)).expect("the spawner lives");
        let child = answered
            .recv()
            .expect("the spawner answers")
            .unwrap_or_else(|e| panic!("cannot start {} through setpriv: {e}", program.display()));
        Self { child, log: log.to_owned() }
    }

    /// Sends a signal. A process that has already ended receives none.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
    }

    /// Stops the process, which then answers nobody, until [`Process::resume`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets the process continue.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends `kill -9`, and waits until the process has ended.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends `kill -9` to the process and all that it has started, without waiting. The process is stopped first,
    /// so that it neither notices the end of its children nor starts others.
    pub fn send_kill(&self) {
        self.signal(Signal::STOP);
        for child in self.children() {
            let _ = kill_process(child, Signal::KILL);
        }
        self.signal(Signal::KILL);
    }

    /// Sends SIGTERM, and waits for the end. After `patience` the process is killed, and `None` is returned.
    pub fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        self.ended(patience)
    }

    /// Waits for the end. After `patience` the process is killed, and `None` is returned.
    pub fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < patience {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        None
    }

    /// Returns how the process ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Returns the processes that it started itself and that still run.
    pub fn children(&self) -> Vec<Pid> {
        let parent = self.child.id().to_string();
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                // The format is: pid (name) state ppid …. The name may contain spaces, so parse after its last
                // parenthesis.
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let after_name = stat.rsplit(')').next().unwrap_or_default();
                after_name.split_whitespace().nth(1) == Some(parent.as_str())
            })
            .filter_map(Pid::from_raw)
            .collect()
    }

    /// Returns the file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the command for `program`, which the kernel kills when this process ends, as `user` if one is given.
pub fn command(program: &Path, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}

fn log_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Returns the end of a log, for a failure message.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
