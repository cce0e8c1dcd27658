//! Serves a [`Disk`] to the kernel.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::content::{PAGE, SECTOR};
use crate::disk::Disk;
use crate::file::File;
use crate::tree::{Folder, Inode, Kind, Node, Tree};

/// How long the kernel may remember attributes and entries. Nobody else changes them.
const REMEMBER: Duration = Duration::from_secs(3600);
const FIRST: Generation = Generation(0);
const HANDLE: FileHandle = FileHandle(0);

/// The file system. Content goes through the kernel's page cache, because SQLite maps a file into memory; each
/// `write` reaches the disk at once, so that the kernel holds nothing back that only the disk may forget.
pub struct Served(pub Arc<Disk>);

impl Served {
    /// Answers with the attributes of what `answer` returns.
    fn node(&self, answer: impl FnOnce(&mut Tree) -> Result<Inode, Errno>) -> Result<FileAttr, Errno> {
        self.0.request(|tree| {
            let inode = answer(tree)?;
            attributes(tree, inode)
        })
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        kind: Kind,
    ) -> Result<FileAttr, Errno> {
        let node = Node::new(kind, name, (mode & 0o7777) as u16, (request.uid(), request.gid()));
        self.node(|tree| tree.create(parent.0, name, node))
    }
}

fn attributes(tree: &Tree, inode: Inode) -> Result<FileAttr, Errno> {
    let node = tree.node(inode)?;
    let (kind, size, nlink) = match &node.kind {
        Kind::File(file) => (FileType::RegularFile, file.live().size(), 1),
        Kind::Folder(_) => (FileType::Directory, PAGE as u64, 2),
    };
    Ok(FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: size.div_ceil(SECTOR as u64),
        atime: node.changed,
        mtime: node.changed,
        ctime: node.changed,
        crtime: node.changed,
        kind,
        perm: node.mode,
        nlink,
        uid: node.owner.0,
        gid: node.owner.1,
        rdev: 0,
        blksize: PAGE as u32,
        flags: 0,
    })
}

fn errno(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

/// Answers a request that returns nothing.
fn reply_empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn reply_entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.entry(&REMEMBER, &attributes, FIRST),
        Err(error) => reply.error(errno(error)),
    }
}

fn reply_attr(reply: ReplyAttr, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.attr(&REMEMBER, &attributes),
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        reply_entry(reply, self.node(|tree| tree.lookup(parent.0, name)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply_attr(reply, self.node(|_| Ok(inode.0)));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        changed: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let result = self.node(|tree| {
            if let Some(size) = size {
                tree.resize(inode.0, size)?;
            }
            let node = tree.node_mut(inode.0)?;
            node.mode = mode.map_or(node.mode, |mode| (mode & 0o7777) as u16);
            node.owner = (user.unwrap_or(node.owner.0), group.unwrap_or(node.owner.1));
            node.changed = match changed {
                Some(TimeOrNow::SpecificTime(time)) => time,
                Some(TimeOrNow::Now) => SystemTime::now(),
                None => node.changed,
            };
            Ok(inode.0)
        });
        reply_attr(reply, result);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        reply_entry(reply, self.create(request, parent, name, mode, Kind::Folder(Folder::default())));
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.create(request, parent, name, mode, Kind::File(File::default())) {
            Ok(attributes) => reply.created(&REMEMBER, &attributes, FIRST, HANDLE, FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn link(&self, _: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result = self.node(|tree| {
            tree.link(inode.0, parent.0, name)?;
            Ok(inode.0)
        });
        reply_entry(reply, result);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.0.request(|tree| tree.remove(parent.0, name, false)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.0.request(|tree| tree.remove(parent.0, name, true)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let result = if flags.is_empty() || !replace {
            self.0.request(|tree| tree.rename((parent.0, name), (new_parent.0, new_name), replace))
        } else {
            Err(Errno::INVAL)
        };
        reply_empty(reply, result);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.request(|tree| Ok(tree.file(inode.0)?.live().read(offset, size as usize))) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // After a write with `O_DSYNC` the kernel calls `fsync`.
        match self.0.write(inode.0, offset, bytes) {
            Ok(()) => reply.written(bytes.len() as u32),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let result = self.0.request(|tree| {
            let size = tree.file(inode.0)?.live().size();
            if mode == FallocateFlags::KEEP_SIZE {
                Ok(())
            } else if mode.is_empty() {
                tree.resize(inode.0, size.max(offset + length))
            } else {
                Err(Errno::OPNOTSUPP)
            }
        });
        reply_empty(reply, result);
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply_empty(reply, self.0.sync(inode.0));
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply_empty(reply, self.0.sync(inode.0));
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        // The first two cookies are those of the folder itself and the one above.
        let listed = self.0.request(|tree| {
            let above = [(1, "."), (2, "..")];
            let mut listed: Vec<_> =
                above.map(|(cookie, name)| (cookie, name.into(), inode.0, FileType::Directory)).into();
            for (name, entry) in tree.entries(inode.0)? {
                let kind = attributes(tree, entry.inode)?.kind;
                listed.push((entry.cookie, name.clone(), entry.inode, kind));
            }
            listed.sort_by_key(|(cookie, ..)| *cookie);
            Ok(listed)
        });
        match listed {
            Ok(listed) => {
                for (cookie, name, inode, kind) in listed.into_iter().filter(|(cookie, ..)| *cookie > offset) {
                    if reply.add(INodeNo(inode), cookie, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // As large as a server wants it: what bounds it is the memory.
        let blocks = (64 << 30) / PAGE as u64;
        reply.statfs(blocks, blocks, blocks, 1 << 20, 1 << 20, PAGE as u32, 255, PAGE as u32);
    }
}
