//! A disposable copy of a directory. What is copied may change meanwhile: see [`Tree`].

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use crate::error::{Context, Error, Result};
use crate::sandbox::tree::{FileKind, Found, Tree, shown};

/// How many entries one directory may have, and how deep directories may be.
const MOST: (usize, usize) = (1 << 20, 200);

/// Copies all of the directory `from` into the empty directory `to`, whose files belong to `owner` then if that is given.
/// Links are copied as they are. Sockets, named pipes, devices and other file systems are left out.
///
/// # Errors
/// Names what could not be copied.
pub fn copy(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let tree = Tree::open(from)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(to, flags, Mode::empty()).context(|| shown(to))?;
    let top = tree.find(Path::new("")).context(|| shown(from))?;
    directory(&tree, Path::new(""), &top, &root, owner, 0)
}

fn directory(
    tree: &Tree,
    path: &Path,
    found: &Found,
    to: &OwnedFd,
    owner: Option<(u32, u32)>,
    depth: usize,
) -> Result<()> {
    let what = |path: &Path| format!("copy {}", shown(path));
    if depth > MOST.1 {
        return Err(Error::config(format!("deeper than {} directories", MOST.1))).context(|| what(path));
    }
    for name in tree.list(path, MOST.0).context(|| what(path))? {
        let path = path.join(&name);
        let found = match tree.find(&path) {
            // What has gone meanwhile is not there to be copied, and another file system is not the directory's.
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EXDEV) => continue,
            found => found.context(|| what(&path))?,
        };
        match found.kind() {
            FileKind::Directory => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let made = mkdirat(to, name.as_os_str(), Mode::S_IRWXU)
                    .and_then(|()| openat(to, name.as_os_str(), flags, Mode::empty()))
                    .context(|| what(&path))?;
                directory(tree, &path, &found, &made, owner, depth + 1)?;
            }
            FileKind::File => file(&found, to, &name, owner).context(|| what(&path))?,
            FileKind::Link => {
                let target = found.target().context(|| what(&path))?;
                symlinkat(&target, to, name.as_os_str()).context(|| what(&path))?;
                if let Some((uid, gid)) = owner {
                    let ids = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                    fchownat(to, name.as_os_str(), ids.0, ids.1, AtFlags::AT_SYMLINK_NOFOLLOW)
                        .context(|| what(&path))?;
                }
            }
            FileKind::Fifo | FileKind::Socket | FileKind::Device => {}
        }
    }
    finish(found, to, owner).context(|| what(path))
}

fn file(found: &Found, to: &OwnedFd, name: &std::ffi::OsStr, owner: Option<(u32, u32)>) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut copy = File::from(openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    std::io::copy(&mut found.reader()?, &mut copy)?;
    finish(found, &copy, owner)
}

/// Owner, mode and times.
fn finish(found: &Found, copy: impl AsFd, owner: Option<(u32, u32)>) -> Result<()> {
    if let Some((uid, gid)) = owner {
        fchown(copy.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(copy.as_fd(), Mode::from_bits_retain(found.stat.st_mode & 0o777))?;
    let time = TimeSpec::new(found.stat.st_mtime, found.stat.st_mtime_nsec);
    Ok(futimens(copy.as_fd(), &time, &time)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_copy_is_the_same_but_for_what_is_no_file() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::write(from.path().join("a/b/run"), "x").unwrap();
        fs::set_permissions(from.path().join("a/b/run"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("/etc/passwd", from.path().join("link")).unwrap();
        nix::unistd::mkfifo(&from.path().join("pipe"), Mode::S_IRWXU).unwrap();
        copy(from.path(), to.path(), None).unwrap();
        let run = fs::metadata(to.path().join("a/b/run")).unwrap();
        assert_eq!((run.mode() & 0o7777, run.len()), (0o755, 1));
        assert_eq!(run.mtime(), fs::metadata(from.path().join("a/b/run")).unwrap().mtime());
        assert_eq!(fs::read_link(to.path().join("link")).unwrap(), Path::new("/etc/passwd"));
        assert!(!to.path().join("pipe").exists());
    }
}
