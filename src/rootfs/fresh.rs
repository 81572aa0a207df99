//! A root that is made for one container, in memory, and is gone with it: nothing of it is ever on the host's disks.

use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use serde::Serialize;

use crate::error::{Context, Result};
use crate::sys::mount::{FileSystem, attr};

/// How much a root takes at most, apart from what is mounted on it: its directories and a few small files.
const SIZE: &std::ffi::CStr = c"1m";

/// What such a root has in it to begin with. All paths are relative to it, without `.` and `..`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Fresh {
    /// Directories, each after the one that it is in, with their permission bits.
    pub directories: Vec<(PathBuf, u32)>,
    /// Symbolic links: path and target.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Files: path and content. Everybody may read them.
    pub files: Vec<(PathBuf, String)>,
}

impl Fresh {
    /// A detached tmpfs, still empty.
    pub(super) fn make() -> Result<OwnedFd> {
        let what = || "make a root file system in memory";
        let fs = FileSystem::open(c"tmpfs").context(what)?;
        fs.set(c"mode", Some(c"755")).context(what)?;
        fs.set(c"size", Some(SIZE)).context(what)?;
        fs.create().context(what)?;
        fs.mount(attr::NOSUID).context(what)
    }

    /// Puts everything into it. Nobody else has seen it yet: its paths mean what they say.
    pub(super) fn furnish(&self, root: BorrowedFd) -> Result<()> {
        let what = |path: &Path| format!("make \"/{}\" in the root", path.display());
        for (path, mode) in &self.directories {
            match mkdirat(root, path, Mode::from_bits_retain(*mode)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno).context(|| what(path)),
            }
        }
        for (path, target) in &self.links {
            symlinkat(target, root, path).context(|| what(path))?;
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for (path, content) in &self.files {
            let file = openat(root, path, flags, Mode::from_bits_retain(0o644)).context(|| what(path))?;
            std::fs::File::from(file).write_all(content.as_bytes()).context(|| what(path))?;
        }
        Ok(())
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        let links: Vec<_> = self.links.iter().map(|(path, _)| format!("/{}", path.display())).collect();
        let files: Vec<_> = self.files.iter().map(|(path, _)| format!("/{}", path.display())).collect();
        let mut words = vec!["a root in memory".to_owned()];
        for (kind, list) in [("links", links), ("files", files)] {
            if !list.is_empty() {
                words.push(format!("with {kind} {}", list.join(" ")));
            }
        }
        words.join(", ")
    }
}
