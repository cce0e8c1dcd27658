//! Servers beside those that the operator manages: each is a pod with its Service.

use serde_json::{Value, json};

/// A server of a test.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// The name of the pod and of the Service.
    pub name: &'a str,
    /// The image, which has a shell.
    pub image: &'a str,
    /// What `sh` runs, as an ordinary user who may write below `/data`.
    pub script: &'a str,
    /// The name and the value of a variable.
    pub env: (&'a str, &'a str),
    /// Its ports. It is ready when the first one takes connections.
    pub ports: &'a [u16],
}

impl Server<'_> {
    /// Returns the manifest of the pod and of the Service.
    pub fn manifest(&self) -> Value {
        let labels = json!({ "app": self.name });
        let ports: Vec<_> = self.ports.iter().map(|port| json!({ "containerPort": port })).collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": self.name, "labels": labels },
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999,
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [{
                    "name": "server", "image": self.image, "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", self.script],
                    "env": [{ "name": self.env.0, "value": self.env.1 }],
                    "ports": ports,
                    "readinessProbe": { "tcpSocket": { "port": self.ports[0] }, "periodSeconds": 1 },
                    "resources": { "requests": { "cpu": "20m", "memory": "64Mi" } },
                    "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                    "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
                }],
                "volumes": [{ "name": "data", "emptyDir": {} }],
            },
        });
        // Several ports must have names.
        let ports: Vec<_> =
            self.ports.iter().map(|port| json!({ "name": format!("port-{port}"), "port": port })).collect();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": self.name },
            "spec": { "selector": labels, "ports": ports },
        });
        json!({ "apiVersion": "v1", "kind": "List", "items": [pod, service] })
    }
}
