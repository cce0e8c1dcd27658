//! PostgreSQL under Patroni: a primary and an asynchronous standby, which is promoted when the primary fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::postgres::{DATABASE, program, run, server_user, url_of};
use crate::process::{Process, tail};
use crate::wait::wait_blocking;
use crate::{dirs, ports};

/// How long Patroni may take to start a node, or to promote one. It waits for 20 seconds, the shortest time that it
/// allows, before it takes the lock of a primary that has not renewed it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Two nodes and the etcd in which they elect the primary. Needs root, Patroni and etcd.
#[derive(Debug)]
pub struct Patroni {
    nodes: Vec<Node>,
    scope: String,
    /// It only has to live as long as the nodes.
    _etcd: Process,
}

/// Patroni and its PostgreSQL in a process namespace of their own, so that both are killed at one instant, as if the
/// machine failed.
#[derive(Debug)]
struct Node {
    name: String,
    api: u16,
    port: u16,
    log: PathBuf,
    process: Option<Process>,
}

impl Patroni {
    /// Starts a primary and then a standby, and waits until the standby follows.
    pub fn start() -> Self {
        let (client, peer) = (ports::free(), ports::free());
        let scope = format!("sluice{client}");
        let mut patroni = Self { nodes: Vec::new(), scope, _etcd: start_etcd(client, peer) };
        for number in 0..2 {
            let node = Node::start(&format!("node-{number}"), &patroni.scope, client);
            patroni.nodes.push(node);
            let role = if number == 0 { "leader" } else { "replica" };
            patroni.wait_for(number, role);
        }
        let primary = &patroni.nodes[0];
        let address = ["-h", "127.0.0.1", "-p", &primary.port.to_string()];
        run(Command::new(program("createdb")).args(address).args(["-U", "postgres", DATABASE]));
        patroni
    }

    /// Returns the URL with the hosts of all nodes, which finds the primary among them.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("{}?target_session_attrs=read-write", url_of(&hosts.join(","), DATABASE))
    }

    /// Returns the URL of one node.
    pub fn url_of_node(&self, node: usize) -> String {
        url_of(&format!("127.0.0.1:{}", self.nodes[node].port), DATABASE)
    }

    /// Suspends the processes that send the log of the primary to its standby: from now on the standby lags.
    pub fn hold_replication(&self) {
        let title = format!("postgres: {}: walsender ", self.scope);
        let senders = processes_with_title(&title);
        assert!(!senders.is_empty(), "no process has the title {title:?}");
        for sender in senders {
            let _ = kill_process(sender, Signal::STOP);
        }
    }

    /// Sends `kill -9` to everything of a node.
    pub fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().expect("the node runs");
        process.kill();
        // The namespace ends with its first process, a moment later.
        let address = format!("127.0.0.1:{}", self.nodes[node].port);
        wait_blocking("the node has ended", PATIENCE, || match std::net::TcpStream::connect(&address) {
            Ok(_) => Err("it still takes connections".to_owned()),
            Err(_) => Ok(()),
        });
    }

    /// Waits until a node is the primary; returns how long it took.
    pub fn wait_until_primary(&self, node: usize) -> Duration {
        let began = Instant::now();
        self.wait_for(node, "leader");
        began.elapsed()
    }

    fn wait_for(&self, number: usize, role: &str) {
        let node = &self.nodes[number];
        wait_blocking(&format!("{} is {role}", node.name), PATIENCE, || {
            let output = Command::new("curl")
                .args(["-s", "--max-time", "5", &format!("http://127.0.0.1:{}/cluster", node.api)])
                .stdin(Stdio::null())
                .output()
                .map_err(|error| error.to_string())?;
            let cluster = String::from_utf8_lossy(&output.stdout).into_owned();
            let parsed: serde_json::Value = serde_json::from_str(&cluster).unwrap_or_default();
            let members = parsed["members"].as_array().cloned().unwrap_or_default();
            let ours = members.iter().find(|member| member["name"] == node.name.as_str());
            match ours {
                Some(member) if member["role"] == role && RUNNING.iter().any(|state| member["state"] == *state) => {
                    Ok(())
                }
                _ => Err(format!("{cluster}\n{}", tail(&node.log, 10))),
            }
        });
    }
}

/// What Patroni calls a server that takes connections; the second one is a standby that follows.
const RUNNING: [&str; 2] = ["running", "streaming"];

impl Node {
    fn start(name: &str, scope: &str, etcd: u16) -> Self {
        let dir = dirs::fresh(name);
        let (api, port) = (ports::free(), ports::free());
        let user = server_user().expect("root, who may create a namespace of processes");
        run(Command::new("chown").arg(format!("{user}:")).arg(&dir));
        let settings = dir.join("patroni.yml");
        std::fs::write(&settings, settings_of(name, scope, &dir, api, port, etcd)).expect("Patroni's settings");
        let log = dirs::fresh("patroni-log").join(format!("{name}.log"));
        // The first process of the namespace stays root: a change of the user would undo that it is killed with unshare.
        let script = r#"setpriv --reuid "$1" --regid "$1" --clear-groups -- patroni "$2" & wait"#;
        let settings = settings.display().to_string();
        let args =
            ["--pid", "--fork", "--mount-proc", "--kill-child=KILL", "--", "sh", "-c", script, name, user, &settings];
        let args = args.map(str::to_owned);
        let process = Some(Process::start(Path::new("unshare"), &args, &[], None, &log));
        Self { name: name.to_owned(), api, port, log, process }
    }
}

fn start_etcd(client: u16, peer: u16) -> Process {
    let dir = dirs::fresh("etcd");
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let data = dir.join("data").display().to_string();
    let cluster = format!("default={peer}");
    let args = [
        ["--data-dir", &data],
        ["--listen-client-urls", &client],
        ["--advertise-client-urls", &client],
        ["--listen-peer-urls", &peer],
        ["--initial-advertise-peer-urls", &peer],
        ["--initial-cluster", &cluster],
    ];
    let mut args: Vec<String> = args.concat().into_iter().map(str::to_owned).collect();
    args.push("--unsafe-no-fsync".to_owned());
    Process::start(Path::new("etcd"), &args, &[], None, &dir.join("etcd.log"))
}

/// Patroni's settings. `maximum_lag_on_failover` is what an operator sets who prefers a database that takes writes to one
/// that has every commit.
fn settings_of(name: &str, scope: &str, dir: &Path, api: u16, port: u16, etcd: u16) -> String {
    let bin = program("postgres").parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let dir = dir.display();
    format!(
        "scope: {scope}
name: {name}
restapi: {{listen: '127.0.0.1:{api}', connect_address: '127.0.0.1:{api}'}}
etcd3: {{hosts: ['127.0.0.1:{etcd}']}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    maximum_lag_on_failover: 1073741824
    primary_start_timeout: 0
    postgresql: {{use_pg_rewind: false, parameters: {{max_connections: 300}}}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, {{auth-host: trust}}, {{auth-local: trust}}]
postgresql:
  listen: '127.0.0.1:{port}'
  connect_address: '127.0.0.1:{port}'
  data_dir: '{dir}/data'
  bin_dir: '{bin}'
  pgpass: '{dir}/pgpass'
  authentication: {{superuser: {{username: postgres}}, replication: {{username: postgres}}}}
  parameters: {{unix_socket_directories: '', shared_buffers: 64MB}}
  pg_hba: ['host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust']
"
    )
}

/// Returns the processes whose title begins so.
fn processes_with_title(title: &str) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(title.as_bytes())
    });
    ours.filter_map(Pid::from_raw).collect()
}
