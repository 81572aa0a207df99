//! The host's procfs through a handle that is checked to be procfs: what is written there is never written elsewhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Context, Error, Result};

/// A handle on /proc of the mount namespace that this process is in.
///
/// # Errors
/// If /proc is not procfs.
pub fn handle() -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open("/proc", flags, Mode::empty()).context(|| "open /proc")?;
    if fstatfs(&fd).context(|| "look at /proc")?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(Error::system("/proc is not a proc file system"));
    }
    Ok(fd)
}

/// Opens `path` below the handle, on the same mount of procfs and through no symbolic link but procfs's own `self`.
///
/// # Errors
/// As openat2(2).
pub fn open(proc: BorrowedFd, path: &str, flags: OFlag) -> Result<OwnedFd> {
    let magic = path.contains("/ns/") || path.contains("/fd/");
    let resolve =
        if magic { ResolveFlag::empty() } else { ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV };
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    Ok(openat2(proc, path, how)?)
}

/// Writes `text` to `path` below the handle, in one write.
///
/// # Errors
/// As openat2(2) and write(2).
pub fn write(proc: BorrowedFd, path: &str, text: &str) -> Result<()> {
    let file = open(proc, path, OFlag::O_WRONLY)?;
    nix::unistd::write(file.as_fd(), text.as_bytes())?;
    Ok(())
}

/// Reads the whole of a small file at `path` below the handle.
///
/// # Errors
/// As openat2(2) and read(2).
pub fn read(proc: BorrowedFd, path: &str) -> Result<String> {
    let file = open(proc, path, OFlag::O_RDONLY)?;
    let mut text = vec![0_u8; 4096];
    let mut length = 0;
    loop {
        match nix::unistd::read(&file, &mut text[length..])? {
            0 => break,
            n => length += n,
        }
        if length == text.len() {
            text.resize(length * 2, 0);
        }
    }
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}
