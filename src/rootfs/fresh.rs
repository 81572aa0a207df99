//! A root that is made for one container, in memory, and is gone with it: nothing of it is ever on the host's disks.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::sys::mount::{FileSystem, attr};

/// How much a root takes at most, apart from what is mounted on it: its directories and a few small files.
const SIZE: &CStr = c"1m";

/// What such a root has in it to begin with. All paths are relative to it, without `.` and `..`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Fresh {
    /// Beneath all the rest: a directory of the host's, which is only read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower: Option<PathBuf>,
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

    /// Puts everything into it. Nobody else has seen it yet: its paths mean what they say. Answers another root that is to take
    /// its place, where it has a directory of the host's beneath.
    pub(super) fn furnish(&self, root: BorrowedFd, user_namespace: bool) -> Result<Option<OwnedFd>> {
        if let Some(lower) = &self.lower {
            let over = lay_over(lower, root, attr::NOSUID | attr::NODEV, user_namespace);
            return over.context(|| format!("lay a root in memory over {:?}", lower.display().to_string())).map(Some);
        }
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
        Ok(None)
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        let links: Vec<_> = self.links.iter().map(|(path, _)| format!("/{}", path.display())).collect();
        let files: Vec<_> = self.files.iter().map(|(path, _)| format!("/{}", path.display())).collect();
        let over = self.lower.as_ref().map(|lower| format!(" over {}", lower.display()));
        let mut words = vec![format!("a root in memory{}", over.unwrap_or_default())];
        for (kind, list) in [("links", links), ("files", files)] {
            if !list.is_empty() {
                words.push(format!("with {kind} {}", list.join(" ")));
            }
        }
        words.join(", ")
    }
}

/// An overlay file system that is not attached yet: it shows the directory `lower` of the host's, and what is written goes to
/// `memory`, a tmpfs that is attached until then.
pub(super) fn lay_over(lower: &Path, memory: BorrowedFd, attributes: u64, user_namespace: bool) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let lower = open(lower, flags, Mode::empty())?;
    let stat = fstat(&lower)?;
    // The upper directory is what the whole looks like.
    for (name, mode) in [("upper", stat.st_mode & 0o7777), ("work", 0o700)] {
        mkdirat(memory, name, Mode::from_bits_retain(mode))?;
    }
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    match fchownat(memory, "upper", owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW) {
        // Whoever is nobody in the user namespace cannot be given it.
        Err(Errno::EINVAL | Errno::EPERM) if user_namespace => {}
        answer => answer?,
    }
    // Names with colons and commas in them mean something to overlayfs; numbers do not.
    let path = |fd: BorrowedFd, name: &str| CString::new(format!("/proc/self/fd/{}{name}", fd.as_raw_fd()));
    let fs = FileSystem::open(c"overlay").map_err(|errno| match errno {
        Errno::ENODEV => Error::unsupported("this kernel does not know the file system \"overlay\""),
        errno => errno.into(),
    })?;
    let set = |key: &CStr, fd, name| fs.set(key, path(fd, name).ok().as_deref());
    let configured = set(c"lowerdir", lower.as_fd(), "")
        .and_then(|()| set(c"upperdir", memory, "/upper"))
        .and_then(|()| set(c"workdir", memory, "/work"))
        .and_then(|()| if user_namespace { fs.set(c"userxattr", None) } else { Ok(()) })
        .and_then(|()| fs.create());
    configured.map_err(|errno| match fs.complaint() {
        Some(complaint) => Error::from(errno).context(complaint),
        None => errno.into(),
    })?;
    Ok(fs.mount(attributes)?)
}
