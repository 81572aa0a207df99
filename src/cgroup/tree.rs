//! A cgroup with all that are inside it. A container that may make groups can nest them deeper than a path can be long, and
//! more of them than there are descriptors: so a walk holds one directory at a time, and goes up by `..`.

use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Context, Result};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes a cgroup and all inside it, deepest first. One that is not there is removed.
///
/// # Errors
/// `EBUSY` as soon as one has processes in it; rmdir(2)'s.
pub(super) fn remove(dir: &Path) -> nix::Result<()> {
    let first = rmdir(AT_FDCWD, dir);
    // The kernel says EBUSY both of processes and of children.
    if first != Err(Errno::EBUSY) {
        return first;
    }
    walk(dir, |_| Ok(()), |parent, name| rmdir(parent, name))?;
    rmdir(AT_FDCWD, dir)
}

/// The processes of a cgroup and of all inside it; none if it is not there.
///
/// # Errors
/// If one's list cannot be read.
pub(super) fn pids(dir: &Path) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    let read = |here: BorrowedFd| match read_pids(here) {
        Ok(text) => {
            // A process of another PID namespace is 0 here.
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
            Ok(())
        }
        // A threaded cgroup: its processes are listed above it. Or it has been removed.
        Err(Errno::EOPNOTSUPP | Errno::ENOENT | Errno::ENODEV) => Ok(()),
        Err(errno) => Err(errno),
    };
    walk(dir, read, |_, _| Ok(())).context(|| format!("read the processes of control group {dir:?}"))?;
    Ok(found)
}

fn read_pids(here: BorrowedFd) -> nix::Result<String> {
    let list = openat(here, "cgroup.procs", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    match std::fs::File::from(list).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
    }
}

fn rmdir<P: ?Sized + nix::NixPath>(parent: impl AsFd, name: &P) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        answer => answer,
    }
}

/// Comes to `dir` and everything inside it: `enter` for each on the way down, `leave` with its parent and its name on the
/// way up, for all but `dir` itself. What goes away meanwhile is left out.
fn walk(
    dir: &Path,
    mut enter: impl FnMut(BorrowedFd) -> nix::Result<()>,
    mut leave: impl FnMut(BorrowedFd, &OsStr) -> nix::Result<()>,
) -> nix::Result<()> {
    let Some(mut here) = open_directory(AT_FDCWD, dir)? else {
        return Ok(());
    };
    enter(here.as_fd())?;
    // What is still to be come to in each level, and the name of the level inside it that is open.
    let mut levels = vec![children(here.as_fd())?];
    let mut names: Vec<CString> = Vec::new();
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.pop() {
            if let Some(child) = open_directory(&here, name.as_c_str())? {
                here = child;
                enter(here.as_fd())?;
                levels.push(children(here.as_fd())?);
                names.push(name);
            }
        } else {
            levels.pop();
            if let Some(name) = names.pop() {
                here = openat(&here, "..", DIRECTORY, Mode::empty())?;
                leave(here.as_fd(), OsStr::from_bytes(name.to_bytes()))?;
            }
        }
    }
    Ok(())
}

fn open_directory<P: ?Sized + nix::NixPath>(parent: impl AsFd, name: &P) -> nix::Result<Option<OwnedFd>> {
    match openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The names of the cgroups directly inside an open one.
fn children(here: BorrowedFd) -> nix::Result<Vec<CString>> {
    let Some(listed) = open_directory(here, ".")? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in Dir::from_fd(listed)?.iter() {
        let entry = match entry {
            Err(Errno::ENOENT | Errno::ENODEV) => break,
            entry => entry?,
        };
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::mkdirat;

    use super::*;
    use crate::host::cgroups::Hierarchies;

    #[test]
    fn as_root_groups_that_are_deeper_than_a_path_is_long_are_walked_and_removed() {
        let hierarchies = Hierarchies::find().unwrap();
        let root =
            hierarchies.list.first().unwrap().mount_point.join(format!("procrt-test-deep-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let mut here = open_directory(AT_FDCWD, &root).unwrap().unwrap();
        let long = "x".repeat(200);
        for _ in 0..30 {
            for name in [long.as_str(), "beside"] {
                mkdirat(&here, name, Mode::S_IRWXU).unwrap();
            }
            here = open_directory(&here, long.as_str()).unwrap().unwrap();
        }
        let mut sleep = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let procs = openat(&here, "cgroup.procs", OFlag::O_WRONLY, Mode::empty()).unwrap();
        nix::unistd::write(&procs, sleep.id().to_string().as_bytes()).unwrap();
        assert_eq!(pids(&root).unwrap(), [sleep.id() as i32]);
        assert_eq!(remove(&root), Err(Errno::EBUSY));
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        // A version 1 group has its last process a moment longer.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while remove(&root) == Err(Errno::EBUSY) {
            assert!(std::time::Instant::now() < end, "it stays");
        }
        assert!(!root.exists() && pids(&root).unwrap().is_empty() && remove(&root).is_ok());
    }
}
