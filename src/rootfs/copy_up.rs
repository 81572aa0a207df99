//! `tmpcopyup`: a tmpfs that begins with what the image has at its destination.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, read, symlinkat, write};

use super::devices::list_flags;
use super::inside::{Inside, stat_at};
use crate::error::{Context, Result};

/// Directories deeper than this are refused, rather than the stack overrun.
const DEPTH: usize = 128;

/// Copies everything below `directory` of the root into the mounted but not yet attached `tree`: files, directories,
/// links and nodes with their owners, permissions and times.
pub(super) fn copy_up(inside: Inside, directory: &Path, tree: BorrowedFd) -> Result<()> {
    let from = inside.open(directory, list_flags() & !OFlag::O_NOFOLLOW)?;
    let stat = nix::sys::stat::fstat(&from)?;
    copy_entries(&from, tree, DEPTH)?;
    // A new mount's descriptor is one of O_PATH, which fchown(2) does not take.
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(tree, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
    Ok(())
}

fn copy_entries(from: &OwnedFd, to: BorrowedFd, depth: usize) -> Result<()> {
    if depth == 0 {
        return Err(Errno::ELOOP.into());
    }
    let mut entries = Dir::openat(from, ".", list_flags(), Mode::empty())?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        copy_entry(from, to, name, depth).context(|| format!("{:?}", name.display().to_string()))?;
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: BorrowedFd, name: &OsStr, depth: usize) -> Result<()> {
    let stat = stat_at(from.as_fd(), name)?;
    let kind = stat.st_mode & libc::S_IFMT;
    let mode = Mode::from_bits_retain(stat.st_mode & 0o7777);
    match kind {
        libc::S_IFDIR => {
            mkdirat(to, name, mode)?;
            let (inner_from, inner_to) =
                (openat(from, name, list_flags(), Mode::empty())?, openat(to, name, list_flags(), Mode::empty())?);
            copy_entries(&inner_from, inner_to.as_fd(), depth - 1)?;
        }
        libc::S_IFLNK => symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?,
        libc::S_IFREG => copy_file(from, to, name)?,
        _ => mknodat(to, name, SFlag::from_bits_retain(kind), mode, stat.st_rdev)?,
    }
    keep(to, name, &stat, kind == libc::S_IFLNK)
}

fn copy_file(from: &OwnedFd, to: BorrowedFd, name: &OsStr) -> Result<()> {
    let source = openat(from, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let target = openat(to, name, flags, Mode::from_bits_retain(0o600))?;
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let length = read(&source, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < length {
            written += write(&target, &buffer[written..length])?;
        }
    }
}

/// Gives the copy its owner, permissions and times; in that order, since a change of owner clears set-id bits.
fn keep(to: BorrowedFd, name: &OsStr, stat: &FileStat, link: bool) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if !link {
        fchmodat(to, name, Mode::from_bits_retain(stat.st_mode & 0o7777), FchmodatFlags::FollowSymlink)?;
    }
    let (accessed, modified) =
        (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec));
    Ok(utimensat(to, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?)
}
