//! The processes of a PID namespace, for a container that is known by nothing else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::procfs;
use crate::error::{Context, Error, Result};
use crate::sys::process::parent_namespace;

/// The PID namespace of process `pid`; nothing if it has ended, or is not this user's to look at.
fn namespace_of(pid: i32, proc: BorrowedFd) -> Option<OwnedFd> {
    procfs::open(proc, &format!("{pid}/ns/pid"), OFlag::O_RDONLY).ok()
}

fn inode(namespace: &OwnedFd) -> Option<u64> {
    fstat(namespace).ok().map(|stat| stat.st_ino)
}

/// Process `first`, and all others of its PID namespace and of those made inside, in ascending order; what ends meanwhile
/// may be left out.
///
/// # Errors
/// If /proc cannot be read.
pub fn pids_with(first: i32) -> Result<Vec<i32>> {
    let proc = procfs::handle()?;
    let wanted = namespace_of(first, proc.as_fd()).as_ref().and_then(inode);
    let mut pids = vec![first];
    for entry in std::fs::read_dir("/proc").context(|| "read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid != first && wanted.is_some() && is_inside(pid, wanted, proc.as_fd()) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

fn is_inside(pid: i32, wanted: Option<u64>, proc: BorrowedFd) -> bool {
    let mut namespace = namespace_of(pid, proc);
    while let Some(found) = namespace {
        if inode(&found) == wanted {
            return true;
        }
        // Those above this process's own are not told.
        namespace = parent_namespace(&found).ok();
    }
    false
}

/// Sends `signal` to all of [`pids_with`], and to those that were made meanwhile.
///
/// # Errors
/// As pidfd_send_signal(2).
pub fn signal_all(first: i32, signal: impl Fn(i32) -> std::result::Result<(), Errno>) -> Result<()> {
    let mut sent: Vec<i32> = Vec::new();
    // Whoever forks faster than this cannot be reached so.
    for _ in 0..ROUNDS {
        let new: Vec<i32> = pids_with(first)?.into_iter().filter(|pid| !sent.contains(pid)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for pid in new {
            match signal(pid) {
                Ok(()) | Err(Errno::ESRCH) => sent.push(pid),
                Err(errno) => return Err(Error::from(errno).context(format!("send a signal to process {pid}"))),
            }
        }
    }
    Err(Error::system("the container makes processes faster than they can be sent a signal"))
}

const ROUNDS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_its_own_namespace() {
        let own = std::process::id() as i32;
        assert!(pids_with(own).unwrap().contains(&own));
    }
}
