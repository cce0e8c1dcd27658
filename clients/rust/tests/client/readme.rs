//! The session in the README.

use std::process::Command;

use crate::server::Server;
use crate::writer::example;

#[tokio::test]
async fn the_session_in_the_readme_is_what_the_example_prints() {
    let server = Server::start().await;
    let spool = tempfile::tempdir().unwrap();
    let mut command = Command::new(example("orders"));
    let output = command.arg(server.url()).arg(spool.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let readme = std::fs::read_to_string("README.md").unwrap();
    assert!(readme.contains(&format!("/tmp/orders-spool\n{printed}$ cat")), "the example prints\n{printed}");
    assert_eq!(server.events("orders").await.into_keys().collect::<Vec<_>>(), ["order-1", "order-3"]);
    assert!(spool.path().join("dead-letters.ndjson").is_file());
}
