//! A directory for one sandbox alone, where there is no /tmp of its own: made before the command, removed with all that it has
//! left there, however it has left it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, chown, mkdtemp, unlinkat};

use crate::error::{Context, Result};

/// Makes such a directory below the caller's directory for temporary files, for `uid` and `gid` alone.
///
/// # Errors
/// mkdtemp(3)'s, chown(2)'s.
pub fn make(uid: u32, gid: u32) -> Result<PathBuf> {
    let template = std::env::temp_dir().join("procrt-sandbox-XXXXXX");
    let path = mkdtemp(&template).context(|| format!("make a directory for the sandbox, {template:?}"))?;
    if nix::unistd::geteuid().as_raw() != uid {
        chown(&path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .context(|| format!("give {path:?} to user {uid}"))?;
    }
    // A link in the way to it is not in landlock's rules.
    path.canonicalize().context(|| format!("find {path:?}"))
}

/// Removes the directory and all that is in it, when no process of the sandbox is left: with directories that are closed to
/// their owner, and nested deeper than any path or stack is long.
///
/// # Errors
/// What could not be removed.
pub fn remove(path: &Path) -> Result<()> {
    let what = || format!("remove {path:?}");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = match open(path, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        // The command may have closed its own directory.
        Err(Errno::EACCES) => {
            fchmodat(nix::fcntl::AT_FDCWD, path, Mode::S_IRWXU, FchmodatFlags::FollowSymlink).context(what)?;
            open(path, flags, Mode::empty()).context(what)?
        }
        root => root.context(what)?,
    };
    fchmodat(nix::fcntl::AT_FDCWD, path, Mode::S_IRWXU, FchmodatFlags::FollowSymlink).context(what)?;
    let mut count = 0_u64;
    // Each round takes the directories in the root apart: what they hold comes up, so there are never more than two levels.
    loop {
        let names = entries(root.as_fd()).context(what)?;
        if names.is_empty() {
            break;
        }
        for name in names {
            if unlinkat(&root, name.as_c_str(), UnlinkatFlags::NoRemoveDir).is_ok()
                || unlinkat(&root, name.as_c_str(), UnlinkatFlags::RemoveDir).is_ok()
            {
                continue;
            }
            let inner = enter(root.as_fd(), &name).context(what)?;
            for inside in entries(inner.as_fd()).context(what)? {
                if unlinkat(&inner, inside.as_c_str(), UnlinkatFlags::NoRemoveDir).is_ok()
                    || unlinkat(&inner, inside.as_c_str(), UnlinkatFlags::RemoveDir).is_ok()
                {
                    continue;
                }
                // A directory that is moved is written to: its `..` changes.
                drop(enter(inner.as_fd(), &inside).context(what)?);
                count += 1;
                let place = CString::new(format!(".procrt-{count}")).unwrap_or_default();
                renameat(&inner, inside.as_c_str(), &root, place.as_c_str()).context(what)?;
            }
            unlinkat(&root, name.as_c_str(), UnlinkatFlags::RemoveDir).context(what)?;
        }
    }
    drop(root);
    match nix::unistd::unlinkat(nix::fcntl::AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        done => done.context(what),
    }
}

/// Opens a directory in `dir`, which is made open to its owner if it was not.
fn enter(dir: BorrowedFd, name: &CString) -> std::result::Result<OwnedFd, Errno> {
    let stat = fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR && stat.st_mode & 0o700 != 0o700 {
        fchmodat(dir, name.as_c_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
    }
    openat(
        dir,
        name.as_c_str(),
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

fn entries(dir: BorrowedFd) -> std::result::Result<Vec<CString>, Errno> {
    let again = openat(dir, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut dir = Dir::from_fd(again)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_there_goes_whatever_it_is() {
        let path = make(nix::unistd::geteuid().as_raw(), 0).unwrap();
        std::fs::create_dir_all(path.join("a/b/c")).unwrap();
        std::fs::write(path.join("a/b/c/file"), "x").unwrap();
        std::fs::write(path.join("a/file"), "x").unwrap();
        std::os::unix::fs::symlink("/usr", path.join("a/link")).unwrap();
        for closed in ["a/b", "a"] {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path.join(closed), std::fs::Permissions::from_mode(0o0)).unwrap();
        }
        remove(&path).unwrap();
        assert!(!path.exists());
        remove(&path).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_a_path_is_long_goes_too() {
        let path = make(nix::unistd::geteuid().as_raw(), 0).unwrap();
        let mut dir = open(&path, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&dir, "deep", Mode::S_IRWXU).unwrap();
            dir = openat(&dir, "deep", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
