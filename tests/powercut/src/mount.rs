//! A mounted disk, and its power cut.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::fuse::Served;
use crate::{Disk, Loss};

/// The device through which the kernel passes the requests of a FUSE file system.
const DEVICE: &str = "/dev/fuse";
/// How the mount table calls a disk, with the id of the process that serves it.
const NAME: &str = "sluice-powercut-";
/// Requests that are answered at the same time. Those of a held file wait without stopping the others.
const THREADS: usize = 4;
/// How long a killed process may take to let go of its files.
const LET_GO: Duration = Duration::from_secs(60);

/// A disk under a folder. It is unmounted when this value is dropped, also by a panic.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    disk: Arc<Disk>,
    session: Option<BackgroundSession>,
}

impl Mount {
    /// Mounts an empty disk at this folder, which must exist.
    ///
    /// # Errors
    /// What is missing, if it cannot be mounted: that needs root and `/dev/fuse`.
    pub fn new(path: &Path, seed: u64) -> Result<Self, String> {
        if !Path::new(DEVICE).exists() {
            return Err(format!("the power cut cannot be tested here: {DEVICE} is missing (try `modprobe fuse`)"));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("the power cut cannot be tested here: only root may mount its file system".into());
        }
        static LEFTOVERS: Once = Once::new();
        LEFTOVERS.call_once(unmount_leftovers);
        let disk = Arc::new(Disk::new(seed));
        let session = serve(&disk, path).map_err(|e| format!("cannot mount at {}: {e}", path.display()))?;
        Ok(Self { path: path.to_owned(), disk, session: Some(session) })
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Unmounts the disk, which drops what the kernel has cached, forgets what is not durable, and mounts it again.
    /// The power must be cut, and all processes that used the disk must be killed; this waits until they are gone.
    pub fn restore(&mut self, loss: Loss, seed: u64) {
        self.disk.fail();
        let started = Instant::now();
        while let Err(error) = unmount(&self.path, UnmountFlags::empty()) {
            let path = self.path.display();
            assert!(error == Errno::BUSY && started.elapsed() < LET_GO, "cannot unmount {path}: {error}");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.session.take().expect("a mounted disk").join().expect("the end of the session");
        self.disk.restore(loss, seed);
        self.session = Some(serve(&self.disk, &self.path).expect("the disk is mounted again"));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Who still uses it gets errors, and the kernel removes the mount when the last of them is gone.
        self.disk.fail();
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

fn serve(disk: &Arc<Disk>, path: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    let name = format!("{NAME}{}", std::process::id());
    config.mount_options = vec![MountOption::FSName(name), MountOption::DefaultPermissions];
    // PostgreSQL runs as a user of its own.
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    fuser::spawn_mount(Served(disk.clone()), path, &config)
}

/// Unmounts what killed processes have left, whose folders nobody can remove otherwise.
fn unmount_leftovers() {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in table.lines() {
        let mut fields = line.split(' ');
        let (Some(name), Some(path)) = (fields.next(), fields.next()) else { continue };
        let Some(owner) = name.strip_prefix(NAME) else { continue };
        if !Path::new("/proc").join(owner).exists() {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
    }
}
