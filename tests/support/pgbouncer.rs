//! PgBouncer, a pooler between the programs and a PostgreSQL server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::postgres::{DATABASE, program, run, server_user, url_of};
use crate::process::{Process, tail};
use crate::wait::wait_blocking;
use crate::{dirs, ports};

/// A running PgBouncer.
#[derive(Debug)]
pub struct PgBouncer {
    dir: PathBuf,
    port: u16,
    mode: &'static str,
    process: Process,
}

impl PgBouncer {
    /// Starts it in front of the server at this address, in this mode: `session` or `transaction`.
    pub fn start(server: &str, mode: &'static str) -> Self {
        let (dir, port) = (dirs::fresh("pgbouncer"), ports::free());
        let log = dirs::fresh("pgbouncer-log").join("pgbouncer.log");
        let settings = settings_in(&dir);
        write(&settings, server, port, mode);
        let args = [settings.display().to_string()];
        let mut process = Process::start(Path::new("pgbouncer"), &args, &[], server_user(), &log);
        wait_blocking("PgBouncer takes connections", Duration::from_secs(120), || {
            if let Some(status) = process.exited() {
                panic!("pgbouncer ended with {status}; `make setup` installs it:\n{}", tail(&log, 30));
            }
            let mut ready = Command::new(program("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            if ready.status().is_ok_and(|status| status.success()) { Ok(()) } else { Err(tail(&log, 3)) }
        });
        Self { dir, port, mode, process }
    }

    /// Returns the URL of the database under test behind it.
    pub fn url(&self) -> String {
        url_of(&format!("127.0.0.1:{}", self.port), DATABASE)
    }

    /// Lets connections that are opened from now on lead to the server at this address. Connections of clients that have
    /// a session on the former server keep it, in session mode.
    pub fn lead_to(&self, server: &str) {
        write(&settings_in(&self.dir), server, self.port, self.mode);
        self.process.signal(Signal::HUP);
        let mut ask = Command::new(program("psql"));
        ask.args(["--no-psqlrc", "-tA", "--command=SHOW DATABASES", "--host=127.0.0.1", "--username=postgres"]);
        ask.arg(format!("--port={}", self.port)).arg("pgbouncer");
        let (_, server_port) = server.rsplit_once(':').expect("a port");
        wait_blocking("PgBouncer has read its settings", Duration::from_secs(60), || {
            let answer = ask.output().map_err(|error| error.to_string())?;
            let databases = String::from_utf8_lossy(&answer.stdout).into_owned();
            let leads = databases.lines().any(|line| {
                line.starts_with(&format!("{DATABASE}|")) && line.split('|').any(|field| field == server_port)
            });
            if leads { Ok(()) } else { Err(databases) }
        });
    }
}

fn settings_in(dir: &Path) -> PathBuf {
    dir.join("pgbouncer.ini")
}

/// Writes the settings. The driver sends `extra_float_digits`, which PgBouncer refuses unless it is told to ignore it.
fn write(file: &Path, server: &str, port: u16, mode: &str) {
    let (host, server_port) = server.rsplit_once(':').expect("a port");
    let settings = format!(
        "[databases]
{DATABASE} = host={host} port={server_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = postgres
pool_mode = {mode}
default_pool_size = 100
max_client_conn = 300
ignore_startup_parameters = extra_float_digits
"
    );
    std::fs::write(file, settings).expect("PgBouncer's settings");
    if let Some(user) = server_user() {
        run(Command::new("chown").arg("-R").arg(format!("{user}:")).arg(file.parent().expect("a folder")));
    }
}
