//! Opening and making things inside the root by descriptor. Every path is resolved by the kernel as if the root were
//! `/`, so that no symbolic link and no `..` leads out, whoever changes the tree meanwhile.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};

use crate::error::{Context, Error, Result};

/// As many symbolic links as the kernel follows in one path (path_resolution(7)).
const LINKS: usize = 40;

/// A handle on the root.
#[derive(Debug, Clone, Copy)]
pub struct Inside<'a>(pub BorrowedFd<'a>);

/// The kind of file at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// A directory.
    Directory,
    /// An empty regular file.
    File,
}

fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

impl Inside<'_> {
    /// Opens what is at `path`, which may have symbolic links in it.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn open(self, path: &Path, flags: OFlag) -> std::result::Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        loop {
            // EAGAIN: a rename elsewhere on the machine kept the kernel from being sure (openat2(2)).
            match openat2(self.0, relative(path), how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                answer => return answer,
            }
        }
    }

    /// A handle on what is at `path`; where nothing is, a `leaf` is made, and directories on the way to it.
    ///
    /// # Errors
    /// Names the path.
    pub fn open_or_make(self, path: &Path, leaf: Leaf) -> Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH) {
            Err(Errno::ENOENT) => {}
            answer => return answer.context(|| format!("open {:?} in the root", path.display().to_string())),
        }
        self.make(path, leaf).context(|| format!("make {:?} in the root", path.display().to_string()))
    }

    fn make(self, path: &Path, leaf: Leaf) -> Result<OwnedFd> {
        let mut path = PathBuf::from(relative(path));
        for _ in 0..LINKS {
            // The part that is there, and the names below it that are not.
            let mut missing: Vec<&OsStr> = Vec::new();
            let mut present: &Path = &path;
            let mut at = loop {
                match self.open(present, OFlag::O_PATH) {
                    Ok(fd) => break fd,
                    Err(Errno::ENOENT) => {
                        let (Some(name), Some(parent)) = (present.file_name(), present.parent()) else {
                            return Err(Errno::ENOENT.into());
                        };
                        missing.push(name);
                        present = parent;
                    }
                    Err(errno) => return Err(errno.into()),
                }
            };
            let mut walked = PathBuf::from(present);
            let mut link = None;
            while let Some(name) = missing.pop() {
                let kind = if missing.is_empty() { leaf } else { Leaf::Directory };
                match make_one(at.as_fd(), name, kind) {
                    Ok(fd) => at = fd,
                    // A symbolic link to a place that does not exist: go on from where it points, inside the root.
                    Err(Errno::ELOOP) => {
                        let target = PathBuf::from(readlinkat(&at, name)?);
                        let mut rest = if target.is_absolute() { target } else { walked.join(target) };
                        rest.extend(missing.iter().rev());
                        link = Some(rest);
                        break;
                    }
                    Err(errno) => return Err(errno.into()),
                }
                walked.push(name);
            }
            match link {
                None => return Ok(at),
                Some(target) => path = without_dots(&target),
            }
        }
        Err(Errno::ELOOP.into())
    }

    /// A handle on the directory that `path` is in, made where it is missing, and the path's last name.
    ///
    /// # Errors
    /// Names the path.
    pub fn parent(self, path: &Path) -> Result<(OwnedFd, std::ffi::OsString)> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::config(format!("{:?} has no file name", path.display().to_string())))?;
        let parent = self.open_or_make(path.parent().unwrap_or(Path::new("/")), Leaf::Directory)?;
        Ok((parent, name.to_owned()))
    }
}

/// Makes `name` in the directory `at`, or opens what is there; `ELOOP` if that is a symbolic link.
fn make_one(at: BorrowedFd, name: &OsStr, kind: Leaf) -> std::result::Result<OwnedFd, Errno> {
    let path_only = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match kind {
        Leaf::Directory => match mkdirat(at, name, Mode::from_bits_retain(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        },
        Leaf::File => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
            match openat(at, name, flags, Mode::from_bits_retain(0o755)) {
                Ok(_) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    let stat = stat_at(at, name)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFLNK => Err(Errno::ELOOP),
        kind_there if kind == Leaf::Directory && kind_there != libc::S_IFDIR => Err(Errno::ENOTDIR),
        _ => openat(at, name, path_only, Mode::empty()),
    }
}

/// What `name` in the directory `at` is, itself and not what it links to.
///
/// # Errors
/// As fstatat(2).
pub fn stat_at(at: BorrowedFd, name: &OsStr) -> std::result::Result<FileStat, Errno> {
    fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// `path` without `.` and with `..` taken by name: what a path that does not exist means.
pub fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let fd = nix::fcntl::open(directory.path(), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        (directory, fd)
    }

    #[test]
    fn missing_directories_are_made_on_the_way() {
        let (directory, fd) = root();
        Inside(fd.as_fd()).open_or_make(Path::new("/a/b/c"), Leaf::File).unwrap();
        assert!(directory.path().join("a/b/c").is_file());
    }

    #[test]
    fn links_never_lead_out_of_the_root() {
        let (directory, fd) = root();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), directory.path().join("absolute")).unwrap();
        symlink("../../../../../../../..", directory.path().join("up")).unwrap();
        let inside = Inside(fd.as_fd());
        inside.open_or_make(Path::new("/absolute/made"), Leaf::Directory).unwrap();
        inside.open_or_make(Path::new("/up/made"), Leaf::Directory).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(directory.path().join("made").is_dir());
        let landed = directory.path().join(outside.path().strip_prefix("/").unwrap()).join("made");
        assert!(landed.is_dir(), "{landed:?}");
    }

    #[test]
    fn a_link_to_nowhere_is_followed_by_name_inside_the_root() {
        let (directory, fd) = root();
        fs::create_dir(directory.path().join("var")).unwrap();
        symlink("/run", directory.path().join("var/run")).unwrap();
        Inside(fd.as_fd()).open_or_make(Path::new("/var/run/x/y"), Leaf::File).unwrap();
        assert!(directory.path().join("run/x/y").is_file());
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let (directory, fd) = root();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        let error = Inside(fd.as_fd()).open_or_make(Path::new("/a/x"), Leaf::File).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP));
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_an_error() {
        let (directory, fd) = root();
        fs::write(directory.path().join("file"), "").unwrap();
        let error = Inside(fd.as_fd()).open_or_make(Path::new("/file/x"), Leaf::File).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOTDIR));
    }
}
