//! A directory whose files belong to nobody that is trusted, and may be changed while they are read: everything in it is
//! opened by the kernel beneath it (openat2(2)), through no symbolic link and on no other file system.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};

use crate::error::{Context, Error, Result};

/// A handle on such a directory.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

/// A file of the tree: which one it is stays fixed, whatever becomes of its name.
#[derive(Debug)]
pub struct Found {
    fd: OwnedFd,
    /// What fstat(2) says.
    pub stat: FileStat,
}

impl Tree {
    /// Opens the directory at `path`, which is the caller's: symbolic links on the way to it count.
    ///
    /// # Errors
    /// Names the path; if it is no directory.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty())
            .context(|| format!("open the directory {:?}", path.display().to_string()))?;
        Ok(Self { root })
    }

    /// Finds what is at `path` beneath the tree, itself and not what it links to.
    ///
    /// # Errors
    /// As openat2(2): `ELOOP` if a directory on the way is a symbolic link, `EXDEV` on another file system.
    pub fn find(&self, path: &Path) -> std::result::Result<Found, Errno> {
        let fd = self.open_beneath(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let stat = fstat(&fd)?;
        Ok(Found { fd, stat })
    }

    /// The names in the directory at `path` (empty: the tree itself), in the order of their bytes; at most `most`.
    ///
    /// # Errors
    /// As openat2(2) and getdents64(2); `E2BIG` if there are more.
    pub fn list(&self, path: &Path, most: usize) -> std::result::Result<Vec<OsString>, Errno> {
        let fd = self.open_beneath(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let mut directory = Dir::from_fd(fd)?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == most {
                return Err(Errno::E2BIG);
            }
            names.push(OsString::from_vec(name));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open_beneath(&self, path: &Path, flags: OFlag) -> std::result::Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV;
        // With O_PATH and O_NOFOLLOW the last name may be a link, which RESOLVE_NO_SYMLINKS allows.
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve | ResolveFlag::RESOLVE_NO_SYMLINKS);
        loop {
            // EAGAIN: a rename elsewhere on the machine kept the kernel from being sure (openat2(2)).
            match openat2(&self.root, path, how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                answer => return answer,
            }
        }
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Found {
    /// What it is.
    pub fn kind(&self) -> FileKind {
        match self.stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => FileKind::File,
            libc::S_IFDIR => FileKind::Directory,
            libc::S_IFLNK => FileKind::Link,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            _ => FileKind::Device,
        }
    }

    /// Which file it is: its device and its inode.
    pub fn identity(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }

    /// Opens it for reading. To be asked of regular files alone: opening another kind can do something.
    ///
    /// # Errors
    /// As open(2).
    pub fn reader(&self) -> std::result::Result<File, Errno> {
        // The descriptor is this process's own, and leads to the very file that was found.
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let fd = nix::fcntl::open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty())?;
        Ok(File::from(fd))
    }

    /// The whole content of a regular file, which is what it was while it was read; None if it is more than `most` bytes.
    ///
    /// # Errors
    /// As open(2) and read(2).
    pub fn read(&self, most: u64) -> Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        self.reader()?.take(most.saturating_add(1)).read_to_end(&mut content)?;
        Ok((content.len() as u64 <= most).then_some(content))
    }

    /// Where a symbolic link points to: its text, which cannot change.
    ///
    /// # Errors
    /// As readlink(2).
    pub fn target(&self) -> std::result::Result<PathBuf, Errno> {
        Ok(readlinkat(&self.fd, OsStr::new(""))?.into())
    }
}

/// Why a symbolic link in the directory `at` of a tree, a path from the tree's top, may lead out of it; None if it cannot,
/// in whatever tree of real directories and links like it.
///
/// Only steps up at the beginning count: those lead through real directories. A step up after a name would lead to
/// wherever that name, which may be a link itself, leads.
pub fn leaves_tree(at: &Path, target: &Path) -> Option<&'static str> {
    if target.as_os_str().is_empty() {
        return Some("a link to nothing");
    }
    if target.is_absolute() {
        return Some("a link to an absolute path");
    }
    let depth = at.iter().count();
    let (mut up, mut names) = (0, false);
    for part in target.as_os_str().as_bytes().split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if names => return Some("a link that goes up again after a name"),
            b".." => up += 1,
            _ => names = true,
        }
    }
    (up > depth).then_some("a link that leaves the tree")
}

/// A path to be shown to people: quoted, with what is no plain character escaped.
pub fn shown(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// `path` below the current directory if it is not absolute, without asking the file system.
///
/// # Errors
/// If there is no current directory.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::from(error).context(shown(path)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_may_step_up_as_far_as_they_are_deep() {
        let leaves = |at: &str, target: &str| leaves_tree(Path::new(at), Path::new(target)).is_some();
        assert!(!leaves("", "file"));
        assert!(!leaves("a/b", "../../file"));
        assert!(!leaves("a", "./.././b//c"));
        assert!(leaves("a/b", "../../../file"));
        assert!(leaves("", ".."));
        assert!(leaves("a/b", "/etc/passwd"));
        // "up" may be a link to "..", and then this is outside.
        assert!(leaves("a/b", "up/../x"));
    }

    #[test]
    fn nothing_is_reached_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "secret").unwrap();
        symlink(outside.path(), directory.path().join("link")).unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        assert_eq!(tree.find(Path::new("link/file")).unwrap_err(), Errno::ELOOP);
        assert_eq!(tree.find(Path::new("../x")).unwrap_err(), Errno::EXDEV);
        assert_eq!(tree.list(Path::new("link"), 9).unwrap_err(), Errno::ELOOP);
        let link = tree.find(Path::new("link")).unwrap();
        assert_eq!((link.kind(), link.target().unwrap()), (FileKind::Link, outside.path().to_owned()));
    }
}
