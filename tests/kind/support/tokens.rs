//! Tokens of clients, in the Secret that a resource names.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::cluster::{blocking, kubectl_with};
use super::objects::Namespace;

/// Writes the Secret `clients` with the tokens that are accepted: that of one client, for everything.
pub async fn accept(namespace: &Namespace, token: &str, labels: Value) {
    let hash: String = digest(&SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let file = format!("- name: shop\n  sha256: '{hash}'\n  scopes: [publish, read, admin]\n");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "clients", "labels": labels },
        "stringData": { "tokens.yaml": file },
    });
    let own = namespace.name.clone();
    blocking(move || kubectl_with(&["apply", "-n", &own, "-f", "-"], &secret.to_string())).await;
}
