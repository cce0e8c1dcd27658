//! Signals to the processes of containers, by their process id on their node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::cluster::on_node;
use super::objects::node_of;

/// The main process of a pod's first container.
#[derive(Debug, Clone)]
pub struct Process {
    node: String,
    id: String,
}

impl Process {
    /// Finds the process by the id of the container.
    pub fn of(pod: &Pod) -> Self {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let container = statuses.and_then(|all| all.first()?.container_id.as_deref()).unwrap_or_default();
        let container =
            container.strip_prefix("containerd://").unwrap_or_else(|| panic!("{} runs nothing", pod.name_any()));
        let node = node_of(pod).to_owned();
        let tasks = on_node(&node, &["ctr", "-n", "k8s.io", "tasks", "ls"]);
        let line = tasks.lines().find(|line| line.starts_with(container));
        let id = line.and_then(|line| line.split_whitespace().nth(1));
        let id = id.unwrap_or_else(|| panic!("container {container} is not on {node}:\n{tasks}")).to_owned();
        Self { node, id }
    }

    /// Whether it runs on this node.
    pub fn is_on(&self, node: &str) -> bool {
        self.node == node
    }

    /// Sends SIGKILL. When the main process ends, the kernel kills all other processes of the container.
    pub fn kill(&self) {
        signal(std::slice::from_ref(self), "-KILL");
    }

    /// Pauses the process (SIGSTOP).
    pub fn stop(&self) {
        signal(std::slice::from_ref(self), "-STOP");
    }

    /// Resumes the process after [`Process::stop`] (SIGCONT).
    pub fn resume(&self) {
        signal(std::slice::from_ref(self), "-CONT");
    }
}

/// Sends a signal, such as `-STOP`, to processes, with one command for each node. It is no error if a
/// process does not exist any more.
pub fn signal(processes: &[Process], signal: &str) {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for process in processes {
        nodes.entry(&process.node).or_default().push(&process.id);
    }
    for (node, ids) in nodes {
        on_node(node, &["sh", "-c", &format!("kill {signal} {} 2>/dev/null || true", ids.join(" "))]);
    }
}
