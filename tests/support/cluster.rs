//! A Redis Cluster of our own.

use std::path::Path;
use std::time::Duration;

use redis::Value;

use crate::certificates::Identity;
use crate::ports;
use crate::redis::RedisServer;
use crate::wait::{holds, wait_blocking};

const SLOTS: usize = 16_384;
/// How long a node may be silent before a failover. Longer makes tests slower, shorter lets a busy machine cause
/// failovers.
const NODE_TIMEOUT_MS: &str = "5000";
const PATIENCE: Duration = Duration::from_secs(120);

/// Nodes with equal shares of the slots, each with or without a replica.
#[derive(Debug)]
pub struct RedisCluster {
    /// The nodes; those that own slots at the beginning come first.
    pub servers: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster, with a replica of each node or without.
    pub fn start(nodes: usize, has_replicas: bool, settings: &[&str]) -> Self {
        Self::start_by(nodes, has_replicas, |cluster| RedisServer::start_with(&[cluster, settings].concat()))
    }

    /// Starts a cluster without replicas whose nodes speak TLS with this certificate, with each other too, and demand
    /// certificates of this CA. What the test itself asks them is plain.
    pub fn start_with_tls(nodes: usize, identity: &Identity, ca: &Path) -> Self {
        let start = |cluster: &[&str]| {
            RedisServer::start_with_tls_and(identity, Some(ca), &[cluster, &["--tls-cluster", "yes"]].concat())
        };
        Self::start_by(nodes, false, start)
    }

    fn start_by(nodes: usize, has_replicas: bool, start_node: impl Fn(&[&str]) -> RedisServer) -> Self {
        let start = || {
            let port = ports::free().to_string();
            start_node(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &port,
                "--cluster-node-timeout",
                NODE_TIMEOUT_MS,
            ])
        };
        let all = if has_replicas { 2 * nodes } else { nodes };
        let cluster = Self { servers: (0..all).map(|_| start()).collect() };
        let bus_ports: Vec<u16> = cluster.servers.iter().map(bus_port).collect();
        for (index, server) in cluster.servers.iter().enumerate() {
            cluster.say(index, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < nodes {
                let (first, end) = (index * SLOTS / nodes, (index + 1) * SLOTS / nodes);
                cluster.say(index, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()]);
            }
            let (port, bus_port) = (server.announced_port().to_string(), bus_ports[index].to_string());
            cluster.say(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]);
        }
        cluster
            .wait_for_each("all nodes know each other", |info| info.contains(&format!("cluster_known_nodes:{all}\r")));
        for index in nodes..all {
            let primary = cluster.id(index - nodes);
            wait_blocking("a replica accepts its primary", PATIENCE, || {
                cluster.servers[index].command::<String>(&["CLUSTER", "REPLICATE", &primary])
            });
        }
        cluster.wait_for_each("the cluster is ready", |info| info.contains("cluster_state:ok"));
        for server in &cluster.servers[nodes..] {
            wait_blocking("a replica is connected", PATIENCE, || {
                let info: String = server.command(&["INFO", "replication"])?;
                holds(info.contains("master_link_status:up"), || info.clone())
            });
        }
        // Without this a node does not vote for a replica that it does not know as one.
        for server in &cluster.servers {
            wait_blocking("all nodes know the replicas", PATIENCE, || {
                let known: String = server.command(&["CLUSTER", "NODES"])?;
                holds(known.lines().filter(|line| line.contains("slave")).count() == all - nodes, || known.clone())
            });
        }
        cluster
    }

    /// Returns the URL for programs.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(RedisServer::address).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Returns the URL for programs that reach it by TLS.
    pub fn tls_url(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.tls_port())).collect();
        format!("rediss+cluster://{}", hosts.join(","))
    }

    /// Returns the slot of a key.
    pub fn slot(&self, key: &str) -> u16 {
        self.running().command(&["CLUSTER", "KEYSLOT", key]).expect("the slot of a key")
    }

    /// Returns the index of the node that owns a slot, as all that run agree.
    pub fn owner(&self, slot: u16) -> usize {
        wait_blocking("the nodes agree on the owner of a slot", PATIENCE, || {
            let mut owners = self.servers.iter().filter(|server| server.runs()).map(|server| owner_by(server, slot));
            let first = owners.next().expect("a node that runs")?;
            for other in owners {
                let other = other?;
                holds(other == first, || format!("{first} and {other}"))?;
            }
            let index = self.servers.iter().position(|server| server.port() == first);
            index.ok_or_else(|| format!("there is no node at {first}"))
        })
    }

    /// Waits until another node than this one, which was killed, owns a slot.
    pub fn wait_for_failover_from(&self, killed: usize, slot: u16) {
        wait_blocking("a replica takes the place of a node", PATIENCE, || {
            let owner = self.owner(slot);
            holds(owner != killed, || format!("node {killed} still owns it"))
        });
        wait_blocking("the cluster is ready", PATIENCE, || {
            let info: String = self.servers[self.owner(slot)].command(&["CLUSTER", "INFO"])?;
            holds(info.contains("cluster_state:ok"), || info.clone())
        });
    }

    /// Waits until this node is a replica that has everything.
    pub fn wait_until_replica(&self, index: usize) {
        wait_blocking("the node is a replica", PATIENCE, || {
            let info: String = self.servers[index].command(&["INFO", "replication"])?;
            holds(info.contains("role:slave") && info.contains("master_link_status:up"), || info.clone())
        });
    }

    /// Begins to move a slot to a node. Its keys stay until they are moved.
    pub fn begin_move(&self, slot: u16, to: usize) -> Move<'_> {
        let from = self.owner(slot);
        let number = slot.to_string();
        self.say(to, &["CLUSTER", "SETSLOT", &number, "IMPORTING", &self.id(from)]);
        self.say(from, &["CLUSTER", "SETSLOT", &number, "MIGRATING", &self.id(to)]);
        Move { cluster: self, slot: number, from, to }
    }

    fn wait_for_each(&self, what: &str, is_ready: impl Fn(&str) -> bool) {
        for server in &self.servers {
            wait_blocking(what, PATIENCE, || {
                let info: String = server.command(&["CLUSTER", "INFO"])?;
                holds(is_ready(&info), || info.clone())
            });
        }
    }

    fn id(&self, index: usize) -> String {
        self.servers[index].command(&["CLUSTER", "MYID"]).expect("the id of a node")
    }

    fn say(&self, index: usize, words: &[&str]) {
        let said: Result<String, String> = self.servers[index].command(words);
        assert!(said.is_ok(), "{words:?}: {said:?}");
    }

    fn running(&self) -> &RedisServer {
        self.servers.iter().find(|server| server.runs()).expect("a node that runs")
    }
}

/// A slot that is being moved from one node to another.
#[derive(Debug)]
pub struct Move<'a> {
    cluster: &'a RedisCluster,
    slot: String,
    from: usize,
    to: usize,
}

impl Move<'_> {
    /// Moves one key of the slot; returns whether there was one.
    pub fn one_key(&self) -> bool {
        let (from, to) = (&self.cluster.servers[self.from], &self.cluster.servers[self.to]);
        let keys: Vec<String> = from.command(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "1"]).expect("keys of a slot");
        for key in &keys {
            let port = to.announced_port().to_string();
            self.cluster.say(self.from, &["MIGRATE", "127.0.0.1", &port, key, "0", "10000"]);
        }
        !keys.is_empty()
    }

    /// Moves what is left, and makes the node the owner of the slot.
    pub fn finish(self) {
        while self.one_key() {}
        let owner = self.cluster.id(self.to);
        for index in [self.to, self.from] {
            self.cluster.say(index, &["CLUSTER", "SETSLOT", &self.slot, "NODE", &owner]);
        }
    }
}

fn bus_port(server: &RedisServer) -> u16 {
    let setting: (String, u16) = server.command(&["CONFIG", "GET", "cluster-port"]).expect("a setting");
    setting.1
}

/// Returns the port of the node that owns a slot, as one of them knows it.
fn owner_by(server: &RedisServer, slot: u16) -> Result<u16, String> {
    let ranges: Vec<Vec<Value>> = server.command(&["CLUSTER", "SLOTS"])?;
    let owner = ranges.iter().find_map(|range| match range.as_slice() {
        [Value::Int(first), Value::Int(last), Value::Array(owner), ..] => {
            let is_within = (*first..=*last).contains(&i64::from(slot));
            owner.get(1).filter(|_| is_within).and_then(|port| match port {
                Value::Int(port) => u16::try_from(*port).ok(),
                _ => None,
            })
        }
        _ => None,
    });
    owner.ok_or_else(|| format!("no node owns slot {slot}"))
}
