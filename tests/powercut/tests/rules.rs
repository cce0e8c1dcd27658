//! The rules by which the disk forgets, for many seeds each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ffi::OsStr;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sluice_powercut::Loss;
use sluice_powercut::content::{PAGE, SECTOR};
use sluice_powercut::file::File;
use sluice_powercut::tree::{Folder, Inode, Kind, Node, ROOT, Tree};

const EVERY: [Loss; 4] = [Loss::Everything, Loss::Pages, Loss::TornPages, Loss::Zeros];
const SEEDS: u64 = 300;

fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn file(content: &[u8]) -> File {
    let mut file = File::default();
    file.write(0, content, &mut random(0));
    file.sync();
    file
}

/// Returns what every kind of power cut leaves of a file.
fn outcomes(file: &File, losses: &[Loss]) -> Vec<Vec<u8>> {
    let cut = |loss: &Loss| {
        let loss = *loss;
        (0..SEEDS).map(move |seed| file.after_cut(loss, &mut random(seed)))
    };
    losses.iter().flat_map(cut).map(|left| left.read(0, left.size() as usize)).collect()
}

fn name(name: &str) -> &OsStr {
    OsStr::new(name)
}

fn create(tree: &mut Tree, folder: Inode, at: &str) -> Inode {
    tree.create(folder, name(at), Node::new(Kind::File(File::default()), name(at), 0o644, (0, 0))).unwrap()
}

fn create_folder(tree: &mut Tree, folder: Inode, at: &str) -> Inode {
    tree.create(folder, name(at), Node::new(Kind::Folder(Folder::default()), name(at), 0o755, (0, 0))).unwrap()
}

/// Returns the listings of a folder after power cuts, as sets of names; nothing where the folder is lost.
fn listings(make: impl Fn() -> Tree, folder: &str, losses: &[Loss]) -> BTreeSet<Vec<String>> {
    let mut all = BTreeSet::new();
    for loss in losses {
        for seed in 0..SEEDS {
            let left = make().after_cut(*loss, seed);
            let inode = if folder.is_empty() { Ok(ROOT) } else { left.lookup(ROOT, name(folder)) };
            let Ok(inode) = inode else { continue };
            let names = left.entries(inode).unwrap().keys().map(|name| name.to_str().unwrap().to_owned());
            all.insert(names.collect());
        }
    }
    all
}

#[test]
fn what_is_synced_stays_whatever_is_lost() {
    let content: Vec<u8> = (0..3 * PAGE + 100).map(|n| n as u8).collect();
    assert!(outcomes(&file(&content), &EVERY).iter().all(|left| *left == content));
}

#[test]
fn everything_that_is_not_synced_can_be_lost() {
    let mut file = file(b"synced");
    file.write(0, b"SYNCED and more", &mut random(1));
    assert!(outcomes(&file, &[Loss::Everything]).iter().all(|left| left == b"synced"));
}

#[test]
fn pages_are_lost_each_for_itself() {
    let mut file = file(&[1; 2 * PAGE]);
    file.write(0, &[2; 2 * PAGE], &mut random(1));
    let seen: BTreeSet<_> = outcomes(&file, &[Loss::Pages]).iter().map(|left| (left[0], left[PAGE])).collect();
    assert_eq!(seen, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
}

#[test]
fn a_torn_page_consists_of_sectors_of_two_versions() {
    let mut file = file(&[1; PAGE]);
    file.write(0, &[2; PAGE], &mut random(1));
    let left = outcomes(&file, &[Loss::TornPages]);
    let sectors = |left: &Vec<u8>| left.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0]));
    assert!(left.iter().all(sectors), "a sector is never torn");
    assert!(left.iter().any(|left| left[0] == 1 && left[PAGE - 1] == 2));
    assert!(left.iter().any(|left| left[0] == 2 && left[PAGE - 1] == 1));
    let whole = |left: &Vec<u8>| left.iter().all(|byte| *byte == left[0]);
    assert!(outcomes(&file, &[Loss::Pages]).iter().all(whole), "without tearing pages are whole");
}

#[test]
fn a_page_can_be_left_in_a_version_between_the_old_and_the_new_one() {
    let left = (0..SEEDS).map(|seed| {
        let mut file = file(&[1; PAGE]);
        file.write(0, &[2; PAGE], &mut random(seed));
        file.write(0, &[3; PAGE], &mut random(seed + 1));
        file.after_cut(Loss::Pages, &mut random(seed)).read(0, 1)[0]
    });
    assert_eq!(left.collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 3]));
}

#[test]
fn a_file_that_has_grown_keeps_a_beginning_of_what_was_appended() {
    let mut file = file(&[1; 1000]);
    file.write(1000, &[2; 3 * PAGE], &mut random(1));
    let left = outcomes(&file, &[Loss::Pages, Loss::TornPages]);
    assert!(left.iter().all(|left| left[..1000].iter().all(|b| *b == 1) && left[1000..].iter().all(|b| *b == 2)));
    let sizes: BTreeSet<_> = left.iter().map(Vec::len).collect();
    assert!(sizes.contains(&1000) && sizes.contains(&(1000 + 3 * PAGE)) && sizes.len() > 20, "{sizes:?}");
}

#[test]
fn only_zeros_brings_a_size_without_its_data() {
    let mut file = file(&[1; 1000]);
    file.write(1000, &[2; 3 * PAGE], &mut random(1));
    assert!(outcomes(&file, &[Loss::Zeros]).iter().any(|left| left.contains(&0)));
    assert!(!outcomes(&file, &[Loss::Everything, Loss::Pages, Loss::TornPages]).iter().any(|left| left.contains(&0)));
}

#[test]
fn a_truncation_is_undone_with_all_that_follows_it_or_done() {
    let mut file = file(&[1; 3 * PAGE]);
    file.resize(100);
    file.write(100, &[2; PAGE], &mut random(1));
    let mut undone_of = BTreeSet::new();
    for left in outcomes(&file, &EVERY[1..3]) {
        let undone = left == [1; 3 * PAGE];
        let done = left.len() <= 100 + PAGE && left[..100] == [1; 100] && left[100..].iter().all(|byte| *byte == 2);
        assert!(undone || done, "{} bytes, at 100 {:?}", left.len(), left.get(100));
        undone_of.insert(undone);
    }
    assert_eq!(undone_of.len(), 2, "both happen");
    file.sync();
    assert!(outcomes(&file, &EVERY).iter().all(|left| left.len() == 100 + PAGE));
}

#[test]
fn what_was_cut_off_does_not_come_back_when_the_file_grows_again() {
    let mut file = file(&[1; 100]);
    file.write(100, &[2; 100], &mut random(1));
    file.resize(100);
    file.resize(300);
    file.sync();
    assert!(outcomes(&file, &EVERY).iter().all(|left| left[..100] == [1; 100] && left[100..] == [0; 200]));
}

#[test]
fn fsync_of_a_new_file_keeps_its_entry_and_the_folders_above() {
    let make = || {
        let mut tree = Tree::new(0);
        let outer = create_folder(&mut tree, ROOT, "outer");
        let inner = create_folder(&mut tree, outer, "inner");
        let synced = create(&mut tree, inner, "synced");
        create(&mut tree, outer, "other");
        tree.sync(synced).unwrap();
        tree
    };
    assert_eq!(listings(make, "", &EVERY), BTreeSet::from([vec!["outer".to_owned()]]));
    let outer = listings(make, "outer", &EVERY);
    assert_eq!(outer, BTreeSet::from([vec!["inner".to_owned()], vec!["inner".to_owned(), "other".to_owned()]]));
}

#[test]
fn a_rename_and_a_removal_are_durable_by_fsync_of_the_folder_and_never_half_done() {
    let make = |sync: Option<&str>| {
        let mut tree = Tree::new(0);
        let folder = create_folder(&mut tree, ROOT, "folder");
        let moved = create(&mut tree, ROOT, "old");
        create(&mut tree, folder, "removed");
        tree.sync_all();
        tree.rename((ROOT, name("old")), (folder, name("new")), true).unwrap();
        tree.remove(folder, name("removed"), false).unwrap();
        match sync {
            Some("file") => tree.sync(moved).unwrap(),
            Some(_) => tree.sync(folder).unwrap(),
            None => {}
        }
        tree
    };
    let words = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for sync in [None, Some("file")] {
        let inside = listings(|| make(sync), "folder", &EVERY);
        let possible = [words(&["removed"]), words(&["new", "removed"]), words(&["new"]), words(&[])];
        assert_eq!(inside, BTreeSet::from(possible), "after fsync of {sync:?}");
    }
    for seed in 0..SEEDS {
        let left = make(None).after_cut(Loss::Pages, seed);
        let folder = left.lookup(ROOT, name("folder")).unwrap();
        let (old, new) = (left.lookup(ROOT, name("old")), left.lookup(folder, name("new")));
        assert!(old.is_ok() != new.is_ok(), "it is under one of its names: {old:?} {new:?}");
    }
    assert_eq!(listings(|| make(Some("folder")), "folder", &EVERY), BTreeSet::from([words(&["new"])]));
    assert_eq!(listings(|| make(Some("folder")), "", &EVERY), BTreeSet::from([words(&["folder"])]));
}

#[test]
fn a_later_change_of_a_name_is_not_kept_without_the_earlier_ones() {
    let make = || {
        let mut tree = Tree::new(0);
        let first = create(&mut tree, ROOT, "a");
        tree.sync(first).unwrap();
        tree.rename((ROOT, name("a")), (ROOT, name("b")), true).unwrap();
        tree.rename((ROOT, name("b")), (ROOT, name("c")), true).unwrap();
        tree
    };
    let one = |name: &str| vec![name.to_owned()];
    assert_eq!(listings(make, "", &EVERY), BTreeSet::from([one("a"), one("b"), one("c")]));
}

#[test]
fn one_seed_leaves_the_same_disk_each_time() {
    let make = || {
        let mut tree = Tree::new(0);
        for number in 0..20 {
            let inode = create(&mut tree, ROOT, &number.to_string());
            tree.write(inode, 0, &[number; 3 * PAGE]).unwrap();
        }
        tree.after_cut(Loss::TornPages, 7)
    };
    let contents = |tree: &Tree| -> Vec<_> {
        let entries = tree.entries(ROOT).unwrap().iter();
        entries.map(|(name, entry)| (name.clone(), tree.file(entry.inode).unwrap().live().read(0, 4 * PAGE))).collect()
    };
    assert_eq!(contents(&make()), contents(&make()));
}
