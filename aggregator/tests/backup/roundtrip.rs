//! A backup is what was in the database, and can be restored.

use std::process::Command;

use sluice_tests::dirs;
use sluice_tests::postgres::{PostgresServer, program};

use crate::rig::{Place, Shared, backup, content, server};

/// Fetches a backup through a pipe into a server without tables.
fn restored(place: &Place, name: &str) -> PostgresServer {
    let (shared, empty) = (Shared::new(), PostgresServer::start(false));
    let (dump, status) = (shared.path("dump"), shared.path("status"));
    let options = ["--name", name, "--to", &dump, "--exit-status", &status];
    let fetch = place.command("fetch").args(options).spawn().unwrap();
    let mut restore = Command::new(program("pg_restore"));
    let pipe = std::fs::File::open(&dump).unwrap();
    let restore = restore.args(["--exit-on-error", "--dbname", &empty.url()]).stdin(pipe).status().unwrap();
    assert!(restore.success());
    assert!(fetch.wait_with_output().unwrap().status.success());
    assert_eq!(std::fs::read_to_string(status).unwrap(), "0\n");
    empty
}

async fn is_restored_as_it_was(place: Place) {
    // Three parts of the least size.
    let server = server(20).await;
    let made = tokio::task::block_in_place(|| backup(&place, &server, &["--part-size", "8MiB"]));
    assert!(made["size"].as_u64().unwrap() > 20 << 20, "{made}");
    assert_eq!((&made["events"], &made["schema"]), (&42.into(), &"sluice".into()), "{made}");
    assert!(made["postgres"].as_u64().unwrap() >= 15 && made["database_bytes"].as_u64().unwrap() > 20 << 20, "{made}");
    let listed = tokio::task::block_in_place(|| place.list());
    assert_eq!(listed, std::slice::from_ref(&made));
    let copy = tokio::task::block_in_place(|| restored(&place, made["name"].as_str().unwrap()));
    assert_eq!(content(&copy).await, content(&server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_in_a_folder_is_restored_as_it_was() {
    is_restored_as_it_was(Place::folder().0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_an_s3_server_is_restored_as_it_was() {
    is_restored_as_it_was(tokio::task::block_in_place(Place::bucket)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_backups_are_kept_and_one_that_cannot_be_read_is_left() {
    for place in [Place::folder().0, tokio::task::block_in_place(Place::bucket)] {
        let server = server(0).await;
        tokio::task::block_in_place(|| {
            let one = backup(&place, &server, &[]);
            let names = |place: &Place| place.list().iter().map(|backup| backup["name"].clone()).collect::<Vec<_>>();
            let two = backup(&place, &server, &[]);
            assert_eq!(names(&place), [two["name"].clone(), one["name"].clone()], "the newest is first");
            let three = backup(&place, &server, &["--keep", "2"]);
            assert_eq!(names(&place), [three["name"].clone(), two["name"].clone()]);
            let output = place.run("prune", &["--keep", "1"]);
            assert!(output.status.success(), "{output:?}");
            assert_eq!(names(&place), [three["name"].clone()]);
            assert!(!place.run("prune", &["--keep", "0"]).status.success(), "one must stay");
            let newest = place.run("fetch", &["--to", &dirs::fresh("fetched").join("dump").display().to_string()]);
            assert!(newest.status.success(), "{newest:?}");
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_interrupted_backups_have_left_is_removed_after_some_time_and_newer_manifests_stay() {
    let (place, folder) = Place::folder();
    let server = server(0).await;
    tokio::task::block_in_place(|| {
        backup(&place, &server, &[]);
        let file = |name: &str| folder.join(name);
        std::fs::write(file("20200101-000000-000.dump"), "PGDMP").unwrap();
        std::fs::write(file("20991231-000000-000.dump"), "PGDMP").unwrap();
        std::fs::write(file("20200102-000000-000.json"), r#"{"format": 2}"#).unwrap();
        std::fs::write(file("20200102-000000-000.dump"), "PGDMP").unwrap();
        std::fs::write(file("notes.txt"), "mine").unwrap();
        for old in ["20200101-000000-000.dump", "20200102-000000-000.dump"] {
            assert!(Command::new("touch").args(["-d", "2020-01-01"]).arg(file(old)).status().unwrap().success());
        }
        assert!(place.run("prune", &["--keep", "1"]).status.success());
        assert!(!file("20200101-000000-000.dump").exists(), "it was interrupted long ago");
        for name in ["20991231-000000-000.dump", "20200102-000000-000.json", "20200102-000000-000.dump", "notes.txt"] {
            assert!(file(name).exists(), "{name}");
        }
        assert_eq!(place.list().len(), 1);
    });
}
