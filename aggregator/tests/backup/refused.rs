//! What is not a whole backup is never taken for one.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use sluice_tests::dirs;

use crate::rig::{Place, Shared, backup, failure, said, server};

/// Returns the names of all files in a folder, also those of uploads that are not complete.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Opens the pipe as pg_dump does, and writes the beginning of a dump.
fn begin_dump(shared: &Shared) -> std::fs::File {
    let mut pipe = std::fs::OpenOptions::new().write(true).open(shared.path("dump")).unwrap();
    pipe.write_all(b"PGDMP and then nothing").unwrap();
    pipe
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_has_ended_badly_or_not_at_all_is_not_stored() {
    let server = server(0).await;
    for bucket in [false, true] {
        tokio::task::block_in_place(|| {
            let (place, folder) = if bucket { (Place::bucket(), None) } else { (Place::folder().0, Some(())) };
            let shared = Shared::new();
            let store = shared.store(&place, &server, &[]);
            drop(begin_dump(&shared));
            shared.ended("137");
            let said = failure(store);
            assert!(said.contains("pg_dump has ended with 137"), "{said}");

            // The container of pg_dump was killed, so nothing says how it ended.
            let shared = Shared::new();
            let store = shared.store(&place, &server, &["--idle-timeout", "1s"]);
            drop(begin_dump(&shared));
            let said = failure(store);
            assert!(said.contains("exit status of pg_dump has not come"), "{said}");

            // It hangs.
            let shared = Shared::new();
            let store = shared.store(&place, &server, &["--idle-timeout", "1s"]);
            let pipe = begin_dump(&shared);
            let said = failure(store);
            assert!(said.contains("nothing of the dump has come"), "{said}");
            drop(pipe);

            assert_eq!(place.list().len(), 0);
            if folder.is_some() {
                let left = files(Path::new(place.url.trim_start_matches("file://")));
                assert_eq!(left, [""; 0], "what was uploaded is removed");
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_program_is_killed_is_not_listed() {
    let server = server(0).await;
    for place in [Place::folder().0, tokio::task::block_in_place(Place::bucket)] {
        tokio::task::block_in_place(|| {
            let shared = Shared::new();
            let mut store = shared.store(&place, &server, &[]);
            let mut pipe = begin_dump(&shared);
            pipe.write_all(&vec![0; 9 << 20]).unwrap();
            store.kill().unwrap();
            store.wait().unwrap();
            assert_eq!(place.list().len(), 0);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_was_changed_is_found_when_it_is_fetched() {
    let (place, folder) = Place::folder();
    let server = server(0).await;
    tokio::task::block_in_place(|| {
        let name = backup(&place, &server, &[])["name"].as_str().unwrap().to_owned();
        let dump = folder.join(format!("{name}.dump"));
        let mut bytes = std::fs::read(&dump).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&dump, &bytes).unwrap();
        let status = dirs::fresh("status").join("status");
        let to = status.with_file_name("dump").display().to_string();
        let options = ["--to", &to, "--exit-status", &status.display().to_string()];
        let damaged = said(&place.run("fetch", &options));
        assert!(damaged.contains("the dump is damaged: its SHA-256"), "{damaged}");
        assert_eq!(std::fs::read_to_string(&status).unwrap(), "1\n", "whoever reads the pipe is told");
        std::fs::write(&dump, &bytes[..last]).unwrap();
        let cut = said(&place.run("fetch", &options));
        assert!(cut.contains("it is damaged"), "{cut}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_by_name_before_a_dump_is_made() {
    let server = server(0).await;
    tokio::task::block_in_place(|| {
        let mut bucket = Place::bucket();
        "s3://other/shop".clone_into(&mut bucket.url);
        let shared = Shared::new();
        let store = failure(shared.store(&bucket, &server, &[]));
        assert!(store.contains("place of the backups cannot be read") && store.contains("NoSuchBucket"), "{store}");
        assert_eq!(std::fs::read_to_string(shared.path("ready")).unwrap(), "failed\n", "pg_dump does not begin");

        let (mut place, _) = Place::folder();
        let nobody = said(&place.run("fetch", &["--name", "20200101-000000-000"]));
        assert!(nobody.contains("there is no backup 20200101-000000-000"), "{nobody}");
        assert!(said(&place.run("fetch", &[])).contains("there is no backup"));
        assert!(said(&place.run("fetch", &["--name", "../x"])).contains("is not the name of a backup"));
        for url in ["ftp://x/y", "s3:///y", "nothing", "s3://key:secret@x/y", "s3://x/y?z=1"] {
            url.clone_into(&mut place.url);
            assert!(said(&place.run("list", &[])).contains("--url"), "{url}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_in_another_format_or_without_an_exit_status_is_refused() {
    let (place, _) = Place::folder();
    let server = server(0).await;
    tokio::task::block_in_place(|| {
        let plain = dirs::fresh("plain").join("dump.sql");
        std::fs::write(&plain, "-- PostgreSQL database dump").unwrap();
        let url = server.url();
        let store = |from: &str| said(&place.run("store", &["--database-url", &url, "--from", from]));
        let refused = store(&plain.display().to_string());
        assert!(refused.contains("custom format"), "{refused}");
        let shared = Shared::new();
        let refused = store(&shared.path("dump"));
        assert!(refused.contains("--exit-status is needed"), "{refused}");
        let began = Instant::now();
        let missing = place.run("store", &["--database-url", &url, "--from", "/nowhere", "--idle-timeout", "1s"]);
        assert!(said(&missing).contains("--from: /nowhere") && began.elapsed() < Duration::from_secs(30));
        assert_eq!(place.list().len(), 0);
    });
}
