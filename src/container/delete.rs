//! Removing a container, whatever is left of it.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::ContainerState;

use super::Status;
use super::record::{ProcessId, Record};
use super::store::{Entry, Store};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::host::{id_writer, mounts, procfs};
use crate::sys::child::ChildrenKept;
use crate::sys::process::pidfd_send_signal;

/// Removes a stopped container; with `force`, any container, and it is no error when there is none.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::State`] for a container that is not stopped.
pub fn delete(store: &Store, id: &str, force: bool) -> Result<()> {
    if force {
        match store.find(id) {
            // Whoever is at work on it finds its process gone, and lets go of the lock.
            Ok(entry) => end_processes(&entry, entry.read()?.as_ref())?,
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let entry = match store.lock(id) {
        Err(error) if force && error.kind() == Kind::NotFound => return Ok(()),
        answer => answer?,
    };
    let Some(record) = entry.read()? else {
        // `create` was killed between making the directory and writing the record: there is nothing else.
        if force {
            return entry.remove();
        }
        return Err(not_stopped(id, "creating"));
    };
    if !force {
        match record.status(&entry)? {
            Status::Stopped => {}
            Status::Created => {
                // Its program never ran: ending the process that waits for it ends nothing of the user's.
                end_processes(&entry, Some(&record))?;
            }
            Status::Creating => return Err(not_stopped(id, "creating")),
            Status::Running => return Err(not_stopped(id, "running")),
            Status::Paused => return Err(not_stopped(id, "paused")),
        }
    }
    destroy(&entry, &record, Some(&Cgroup::open(&record.cgroups)))
}

fn not_stopped(id: &str, status: &str) -> Error {
    Error::new(
        Kind::State,
        format!("delete {id:?}: cannot delete container that is not stopped: it is {status} (--force ends it first)"),
    )
}

/// Kills the first process and waits until it has ended.
pub(super) fn end_processes(entry: &Entry, record: Option<&Record>) -> Result<()> {
    let Some(record) = record else {
        return Ok(());
    };
    let cgroup = Cgroup::open(&record.cgroups);
    if let Some(pidfd) = record.process.map(ProcessId::open).transpose()?.flatten() {
        match pidfd_send_signal(&pidfd, libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno).context(|| format!("kill {:?}", record.id)),
        }
        cgroup.let_die()?;
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        while let Err(Errno::EINTR) = poll(&mut fds, PollTimeout::NONE) {}
    } else if record.process.is_none() {
        // Nobody knows the first process of a `create` that was killed, but its control group. That may be somebody else's
        // still, if `create` had not come to look at it: then its processes are older than the record, or another
        // container's that came later.
        let proc = procfs::handle()?;
        let pids = cgroup.pids()?;
        if !pids.is_empty() && other_in(entry, record)?.is_some() {
            return Ok(());
        }
        for pid in pids {
            if ProcessId::of(pid, proc.as_fd())?.is_some_and(|process| process.start_time < record.begun) {
                return Err(Error::new(
                    Kind::State,
                    format!("{:?}: its control group has process {pid} in it, which is not the container's", record.id),
                ));
            }
        }
        cgroup.kill(libc::SIGKILL)?;
    }
    Ok(())
}

/// Takes away all of a container whose first process has ended, or is about to: the other processes of its control
/// groups, the groups, those of resctrl, its mounts if they are the host's, its directory; then runs the hooks for after its end. `cgroup`
/// is nothing where the container came to have none: what is at its path then is somebody else's.
///
/// # Errors
/// If something stays. A poststop hook that fails is a warning.
pub(super) fn destroy(entry: &Entry, record: &Record, cgroup: Option<&Cgroup>) -> Result<()> {
    if let Some(cgroup) = cgroup {
        remove_groups(entry, record, cgroup)?;
    }
    if let Some(groups) = &record.resctrl {
        groups.remove()?;
    }
    if let Some(before) = record.mounts_on_host {
        unmount_root(record, before)?;
    }
    entry.remove()?;
    if record.poststop.is_empty() {
        return Ok(());
    }
    let state = hooks::state_json(&record.oci_state(), 0, ContainerState::Stopped)?;
    for error in hooks::run_each("poststop", &record.poststop, &state, Some(&record.bundle)) {
        log::warn!("{error}");
    }
    Ok(())
}

/// Removes a container's control groups. Another container may have come to the same place, since the first process of this
/// one has ended: its processes are not ended, and the groups are left to it.
fn remove_groups(entry: &Entry, record: &Record, cgroup: &Cgroup) -> Result<()> {
    match (remove_own_groups(entry, record, cgroup), &record.subordinate) {
        // What the container has made of groups, and given to others of its ids, is theirs who are nobody here.
        (Err(error), Some((uids, gids))) if error.errno() == Some(libc::EACCES) => {
            let _children = ChildrenKept::new().context(|| "watch children")?;
            // What stays is found by the second attempt.
            id_writer::within(uids, gids, || drop(cgroup.remove()))?;
            remove_own_groups(entry, record, cgroup)
        }
        (removed, _) => removed,
    }
}

fn remove_own_groups(entry: &Entry, record: &Record, cgroup: &Cgroup) -> Result<()> {
    // All of a container that has its PID namespace to itself ends with its first process.
    if record.unit.is_none() && record.own_pids && cgroup.remove_if_free()? {
        return Ok(());
    }
    if !cgroup.is_empty()? {
        if let Some(other) = other_in(entry, record)? {
            log::debug!("the control group of {:?} is left to {other:?}", record.id);
            return Ok(());
        }
        if !record.own_pids {
            cgroup.kill(libc::SIGKILL)?;
        }
    }
    if let Some(unit) = &record.unit {
        unit.stop()?;
    }
    cgroup.remove()
}

/// Another container of the same root, not ended, that has come to the same control group.
fn other_in(entry: &Entry, record: &Record) -> Result<Option<String>> {
    for other in entry.others()? {
        // One that cannot be read, or is gone by now, is nobody's heir.
        let Ok(Some(found)) = other.read() else { continue };
        if found.cgroups == record.cgroups && found.status(&other)? != Status::Stopped {
            return Ok(Some(found.id));
        }
    }
    Ok(None)
}

/// Unmounts the root that `create` has mounted on itself, and with it all that was mounted in it; the `before` mounts that
/// were there stay.
fn unmount_root(record: &Record, before: usize) -> Result<()> {
    let what = || format!("unmount {:?}", record.rootfs.display().to_string());
    for _ in before..mounts::count_at(&record.rootfs)? {
        umount2(&record.rootfs, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).context(what)?;
    }
    Ok(())
}
