//! A file system that forgets at a power cut what was not synced.
//!
//! It keeps two states in memory: what programs see, and what the disk would have after a power cut. The rules
//! are those of ext4 with `data=ordered`, and of POSIX where POSIX promises less:
//!
//! - `fsync` and `fdatasync` of a file make its content and its size durable, and, as ext4 does for a new file,
//!   the entry under which it was created, with the folders above it. After a write with `O_DSYNC` or `O_SYNC` the
//!   kernel asks a FUSE file system for the sync of the whole file, and not of the bytes that were written, so
//!   all of the file is durable then. `sync_file_range` does not reach a file system and makes nothing durable.
//! - A rename, a removal and a link are durable after `fsync` of a folder that they touch, and not before. ext4
//!   would also keep them with the `fsync` of any other file, and it writes a file that replaces another by a
//!   rename (`auto_da_alloc`): no program may rely on that here. A rename is never half done.
//! - What is not durable is lost or kept, each change for itself: see [`Loss`]. Of the changes to one name, a later
//!   one is never kept without the earlier ones.
//! - A page that is written again is in its old, its new, or an intermediate version, or torn at a sector.
//! - A file that has grown may have any size between the old and the new one. `data=ordered` writes data
//!   before the size, so that the new part has the new content. [`Loss::Zeros`] is the exception: a size without its
//!   data, as file systems leave it that allocate first and write later.
//! - A truncation that is not synced is undone together with all that was written beyond it, or done.
//! - Owners, modes and times are not forgotten.
//!
//! [`content`], [`file`](mod@file) and [`tree`] are the model, without input or output; [`disk`] adds the power
//! switch, `fuse` serves it to the kernel, and `mount` mounts it and drops the kernel's cache by mounting it anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking and says on its output what it saw"
)]

pub mod content;
pub mod disk;
pub mod file;
#[cfg(target_os = "linux")]
mod fuse;
#[cfg(target_os = "linux")]
mod mount;
pub mod tree;

pub use disk::Disk;
#[cfg(target_os = "linux")]
pub use mount::Mount;

/// What a power cut does to changes that are not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of them are lost.
    Everything,
    /// Each changed page, size and entry is lost or kept.
    Pages,
    /// Like [`Loss::Pages`], and pages can also be torn in two.
    TornPages,
    /// Like [`Loss::TornPages`], and a page by which a file has grown can also consist of zeros.
    Zeros,
}
