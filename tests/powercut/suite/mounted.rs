//! The disk through the kernel: system calls reach the model as it expects them.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use sluice_powercut::{Loss, Mount};

use crate::trial::disk;

fn cut(disk: &mut Mount) {
    disk.disk().cut();
    disk.restore(Loss::Everything, 1);
}

#[test]
fn what_fsync_and_fdatasync_have_answered_is_there_after_a_power_cut_and_the_rest_is_not() {
    let mut disk = disk("disk", 1);
    for name in ["fsync", "fdatasync", "neither"] {
        let mut file = File::create(disk.path().join(name)).unwrap();
        file.write_all(b"synced").unwrap();
        match name {
            "fsync" => file.sync_all().unwrap(),
            "fdatasync" => file.sync_data().unwrap(),
            _ => {}
        }
        file.write_all(b", not synced").unwrap();
    }
    cut(&mut disk);
    assert_eq!(fs::read(disk.path().join("fsync")).unwrap(), b"synced");
    assert_eq!(fs::read(disk.path().join("fdatasync")).unwrap(), b"synced");
    assert!(!disk.path().join("neither").exists(), "it was never synced");
}

#[test]
fn a_write_with_o_dsync_is_durable() {
    let mut disk = disk("disk", 1);
    let path = disk.path().join("file");
    let options =
        OpenOptions::new().write(true).create(true).custom_flags(OFlags::DSYNC.bits().cast_signed()).open(&path);
    let mut file = options.unwrap();
    file.write_all(b"synced").unwrap();
    drop(file);
    cut(&mut disk);
    assert_eq!(fs::read(&path).unwrap(), b"synced");
}

#[test]
fn a_rename_is_durable_after_fsync_of_the_folder() {
    let mut disk = disk("disk", 1);
    let (old, new) = (disk.path().join("old"), disk.path().join("new"));
    for folder_synced in [false, true] {
        let mut file = File::create(&old).unwrap();
        file.write_all(b"content").unwrap();
        file.sync_all().unwrap();
        fs::rename(&old, &new).unwrap();
        file.sync_all().unwrap();
        if folder_synced {
            File::open(disk.path()).unwrap().sync_all().unwrap();
        }
        drop(file);
        cut(&mut disk);
        assert_eq!((old.exists(), new.exists()), (!folder_synced, folder_synced));
    }
}

#[test]
fn a_request_during_the_power_cut_is_not_answered_and_changes_nothing() {
    let mut disk = disk("disk", 1);
    let mut file = File::create(disk.path().join("file")).unwrap();
    file.write_all(b"before").unwrap();
    file.sync_all().unwrap();
    disk.disk().cut();
    let late = std::thread::spawn(move || (file.write_all(b", late"), file.sync_all()));
    while !late.is_finished() {
        // It waits for an answer, which it gets only when the disk is gone.
        std::thread::sleep(std::time::Duration::from_millis(20));
        disk.disk().fail();
    }
    let (written, synced) = late.join().unwrap();
    assert!(written.is_err() && synced.is_err(), "{written:?} {synced:?}");
    disk.restore(Loss::Pages, 1);
    assert_eq!(fs::read(disk.path().join("file")).unwrap(), b"before");
}
