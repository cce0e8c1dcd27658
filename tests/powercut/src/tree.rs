//! Folders and files, and the changes to entries that are not durable yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::io::Errno;

use crate::Loss;
use crate::file::File;

/// The number of a file or folder.
pub type Inode = u64;
/// The number of the top folder, which the kernel expects.
pub const ROOT: Inode = 1;

/// What an entry of a folder leads to. The cookie orders the entries of a listing, which must not change while
/// others are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The file or folder.
    pub inode: Inode,
    /// Rises with each entry.
    pub cookie: u64,
}

/// The entries of a folder in two states.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    live: BTreeMap<OsString, Entry>,
    durable: BTreeMap<OsString, Entry>,
}

/// A file or a folder.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A file.
    File(File),
    /// A folder.
    Folder(Folder),
}

/// A file or folder with what is not forgotten.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// The name under which it was created or to which it was renamed.
    pub name: OsString,
    /// Its permissions.
    pub mode: u16,
    /// Its owner.
    pub owner: (u32, u32),
    /// When it was last changed.
    pub changed: SystemTime,
}

/// A change of entries that happens as a whole.
#[derive(Debug, Clone)]
struct Change {
    entries: Vec<(Inode, OsString, Option<Entry>)>,
    /// What became reachable under a new name.
    created: Option<Inode>,
}

/// All of the disk.
#[derive(Debug)]
pub struct Tree {
    nodes: BTreeMap<Inode, Node>,
    pending: Vec<Change>,
    next: u64,
    random: StdRng,
}

impl Tree {
    /// Returns an empty disk.
    pub fn new(seed: u64) -> Self {
        let mut tree =
            Self { nodes: BTreeMap::new(), pending: Vec::new(), next: ROOT + 1, random: StdRng::seed_from_u64(seed) };
        tree.nodes.insert(ROOT, Node::new(Kind::Folder(Folder::default()), OsStr::new(""), 0o755, (0, 0)));
        tree
    }

    /// Returns a file or folder.
    pub fn node(&self, inode: Inode) -> Result<&Node, Errno> {
        self.nodes.get(&inode).ok_or(Errno::NOENT)
    }

    /// Returns a file or folder, to change what is not forgotten.
    pub fn node_mut(&mut self, inode: Inode) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&inode).ok_or(Errno::NOENT)
    }

    /// Returns a file.
    pub fn file(&self, inode: Inode) -> Result<&File, Errno> {
        match &self.node(inode)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Folder(_) => Err(Errno::ISDIR),
        }
    }

    fn file_mut(&mut self, inode: Inode) -> Result<&mut File, Errno> {
        match &mut self.node_mut(inode)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Folder(_) => Err(Errno::ISDIR),
        }
    }

    /// Returns the entries of a folder.
    pub fn entries(&self, folder: Inode) -> Result<&BTreeMap<OsString, Entry>, Errno> {
        Ok(&self.folder(folder)?.live)
    }

    fn folder(&self, inode: Inode) -> Result<&Folder, Errno> {
        match &self.node(inode)?.kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(Errno::NOTDIR),
        }
    }

    fn folder_mut(&mut self, inode: Inode) -> Result<&mut Folder, Errno> {
        match &mut self.node_mut(inode)?.kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(Errno::NOTDIR),
        }
    }

    /// Returns what a name leads to.
    pub fn lookup(&self, folder: Inode, name: &OsStr) -> Result<Inode, Errno> {
        self.entries(folder)?.get(name).map(|entry| entry.inode).ok_or(Errno::NOENT)
    }

    /// Creates a file or a folder.
    pub fn create(&mut self, parent: Inode, name: &OsStr, node: Node) -> Result<Inode, Errno> {
        if self.entries(parent)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let inode = self.number();
        self.nodes.insert(inode, node);
        let entry = Entry { inode, cookie: self.number() };
        self.change(Change { entries: vec![(parent, name.to_owned(), Some(entry))], created: Some(inode) })?;
        Ok(inode)
    }

    /// Gives a file a further name.
    pub fn link(&mut self, inode: Inode, parent: Inode, name: &OsStr) -> Result<(), Errno> {
        if self.entries(parent)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.file(inode)?;
        let entry = Entry { inode, cookie: self.number() };
        self.change(Change { entries: vec![(parent, name.to_owned(), Some(entry))], created: None })
    }

    /// Removes the entry of a file, or of an empty folder.
    pub fn remove(&mut self, parent: Inode, name: &OsStr, folder: bool) -> Result<(), Errno> {
        let inode = self.lookup(parent, name)?;
        match (&self.node(inode)?.kind, folder) {
            (Kind::Folder(found), true) if !found.live.is_empty() => return Err(Errno::NOTEMPTY),
            (Kind::Folder(_), false) => return Err(Errno::ISDIR),
            (Kind::File(_), true) => return Err(Errno::NOTDIR),
            _ => {}
        }
        self.change(Change { entries: vec![(parent, name.to_owned(), None)], created: None })
    }

    /// Renames a file or folder; what has the new name is replaced if `replace` allows it.
    pub fn rename(&mut self, from: (Inode, &OsStr), to: (Inode, &OsStr), replace: bool) -> Result<(), Errno> {
        let inode = self.lookup(from.0, from.1)?;
        match self.lookup(to.0, to.1) {
            Ok(_) if !replace => return Err(Errno::EXIST),
            Ok(same) if same == inode => return Ok(()),
            Ok(other) => match (&self.node(inode)?.kind, &self.node(other)?.kind) {
                (Kind::File(_), Kind::File(_)) => {}
                (Kind::Folder(_), Kind::Folder(found)) if found.live.is_empty() => {}
                (Kind::Folder(_), Kind::Folder(_)) => return Err(Errno::NOTEMPTY),
                (Kind::Folder(_), Kind::File(_)) => return Err(Errno::NOTDIR),
                (Kind::File(_), Kind::Folder(_)) => return Err(Errno::ISDIR),
            },
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        let entry = Entry { inode, cookie: self.number() };
        let entries = vec![(from.0, from.1.to_owned(), None), (to.0, to.1.to_owned(), Some(entry))];
        self.change(Change { entries, created: None })?;
        to.1.clone_into(&mut self.node_mut(inode)?.name);
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), Errno> {
        for (folder, name, entry) in &change.entries {
            let live = &mut self.folder_mut(*folder)?.live;
            set(live, name, *entry);
            self.node_mut(*folder)?.changed = SystemTime::now();
        }
        self.pending.push(change);
        Ok(())
    }

    /// Replaces bytes of a file.
    pub fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut random = StdRng::seed_from_u64(self.random.random());
        self.file_mut(inode)?.write(offset, bytes, &mut random);
        self.node_mut(inode)?.changed = SystemTime::now();
        Ok(())
    }

    /// Changes the size of a file.
    pub fn resize(&mut self, inode: Inode, size: u64) -> Result<(), Errno> {
        self.file_mut(inode)?.resize(size);
        self.node_mut(inode)?.changed = SystemTime::now();
        Ok(())
    }

    /// `fsync` or `fdatasync`, of a file or a folder.
    pub fn sync(&mut self, inode: Inode) -> Result<(), Errno> {
        if let Kind::File(file) = &mut self.node_mut(inode)?.kind {
            file.sync();
        }
        self.sync_entries(inode)
    }

    /// Makes everything durable, as long after the last change.
    pub fn sync_all(&mut self) {
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                Kind::File(file) => file.sync(),
                Kind::Folder(folder) => folder.durable = folder.live.clone(),
            }
        }
        self.pending.clear();
    }

    /// Makes the entries durable that a sync of this file or folder covers, with the changes before them to
    /// the same names.
    fn sync_entries(&mut self, inode: Inode) -> Result<(), Errno> {
        // The entries that created it, those that created the folders of these entries, and so on.
        let mut created = BTreeSet::from([inode]);
        loop {
            let creating = self.pending.iter().filter(|c| c.created.is_some_and(|new| created.contains(&new)));
            let folders: Vec<_> = creating.flat_map(|c| c.entries.iter().map(|(folder, ..)| *folder)).collect();
            let before = created.len();
            created.extend(folders);
            if created.len() == before {
                break;
            }
        }
        let mut names = BTreeSet::new();
        let mut durable = Vec::new();
        for at in (0..self.pending.len()).rev() {
            let change = &self.pending[at];
            let wanted = change.created.is_some_and(|new| created.contains(&new))
                || change
                    .entries
                    .iter()
                    .any(|(folder, name, _)| *folder == inode || names.contains(&(*folder, name.clone())));
            if wanted {
                names.extend(change.entries.iter().map(|(folder, name, _)| (*folder, name.clone())));
                durable.push(self.pending.remove(at));
            }
        }
        for change in durable.into_iter().rev() {
            self.keep(change)?;
        }
        Ok(())
    }

    fn keep(&mut self, change: Change) -> Result<(), Errno> {
        for (folder, name, entry) in change.entries {
            set(&mut self.folder_mut(folder)?.durable, &name, entry);
        }
        Ok(())
    }

    /// Returns what is left after a power cut. Everything in it is durable.
    pub fn after_cut(mut self, loss: Loss, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut lost = BTreeSet::new();
        for change in std::mem::take(&mut self.pending) {
            let names: Vec<_> = change.entries.iter().map(|(folder, name, _)| (*folder, name.clone())).collect();
            let possible = !names.iter().any(|name| lost.contains(name));
            if possible && loss != Loss::Everything && random.random() {
                self.keep(change).expect("folders stay known until a power cut");
            } else {
                lost.extend(names);
            }
        }
        let mut left = Self { nodes: BTreeMap::new(), pending: Vec::new(), next: self.next, random };
        let mut reached = vec![ROOT];
        while let Some(inode) = reached.pop() {
            if left.nodes.contains_key(&inode) {
                continue;
            }
            let mut node = self.nodes.remove(&inode).expect("what an entry leads to");
            match &mut node.kind {
                Kind::Folder(folder) => {
                    reached.extend(folder.durable.values().map(|entry| entry.inode));
                    folder.live = folder.durable.clone();
                }
                Kind::File(file) => {
                    *file = File::from(file.after_cut(loss, &mut left.random));
                }
            }
            left.nodes.insert(inode, node);
        }
        left
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Node {
    /// Returns a file or folder that is not in a folder yet.
    pub fn new(kind: Kind, name: &OsStr, mode: u16, owner: (u32, u32)) -> Self {
        Self { kind, name: name.to_owned(), mode, owner, changed: SystemTime::now() }
    }
}

fn set(entries: &mut BTreeMap<OsString, Entry>, name: &OsStr, entry: Option<Entry>) {
    match entry {
        Some(entry) => entries.insert(name.to_owned(), entry),
        None => entries.remove(name),
    };
}
