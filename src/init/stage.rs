//! The clone itself, and the intermediate process that it takes where a user namespace and joined ones come together.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::prctl;

use super::{Channel, Handles, InitPlan, Message, run};
use crate::error::{Context, Error, Result};
use crate::host::procfs;
use crate::namespaces::{self, ChildrenElsewhere, Namespace};
use crate::sys::child::{Ending, Which, wait};
use crate::sys::process::{Cloned, clone, exit_now};
use crate::terminal::signals::Signals;

/// Makes the container's first process, which carries out `plan` with `handles`; `ours` is the channel's other end, and
/// `cgroup` the cgroup v2 directory that it is born in. Answers its pid and a pidfd.
///
/// # Errors
/// As clone3(2) and setns(2).
pub fn clone_first_process(
    plan: &InitPlan,
    mut handles: Handles,
    signals: Option<&Signals>,
    ours: Channel,
    cgroup: Option<BorrowedFd>,
) -> Result<(i32, OwnedFd, Channel)> {
    let flags = plan.namespaces.clone_flags();
    let what = || "make the container's first process (clone3)";
    let (elsewhere, from_within) = match handles.joined.get(Namespace::Pid).map(ChildrenElsewhere::begin).transpose() {
        // A plain user joins it from within the user namespace that it belongs to; and who is root of that alone does not come
        // back.
        Err(error) if error.errno() == Some(libc::EPERM) => (None, true),
        elsewhere => (elsewhere?, false),
    };
    let restore = || elsewhere.map_or(Ok(()), ChildrenElsewhere::end);
    if !plan.namespaces.takes_intermediate() && !from_within {
        return match clone(flags, cgroup, false).context(what)? {
            Cloned::Parent { pid, pidfd } => {
                drop(handles);
                restore()?;
                Ok((pid, pidfd, ours))
            }
            Cloned::Child => {
                drop(ours);
                run(plan, handles, signals)
            }
        };
    }
    // New namespaces must be owned by the user namespace that is joined, so a process that has joined it makes them, and
    // the first process with them, as this process's own child. One that is to be in a new user namespace cannot join what
    // that does not own, so its maker does.
    match clone(0, cgroup, false).context(what)? {
        Cloned::Child => {
            drop(ours);
            let error = match intermediate(plan, &mut handles, flags, from_within) {
                Ok(None) => exit_now(0),
                Ok(Some(Child)) => match handles.channel.wait_for_go() {
                    Ok(()) => run(plan, handles, signals),
                    // Whoever was to say so is gone.
                    Err(_) => exit_now(1),
                },
                Err(error) => error,
            };
            let _ = handles.channel.send(&Message::Failed(error));
            exit_now(1)
        }
        Cloned::Parent { pid: intermediate, .. } => {
            drop(handles);
            restore()?;
            let (pid, pidfd) = receive_child(intermediate, &ours)?;
            Ok((pid, pidfd, ours))
        }
    }
}

/// Waits for the end of an intermediate process, and takes the child that it has made at the other end of `channel`, which
/// goes on then. Answers the child's pid and a pidfd.
pub(super) fn receive_child(intermediate: i32, channel: &Channel) -> Result<(i32, OwnedFd)> {
    // When it has ended it has said what it had to say. Its child holds the same end of the channel, and says nothing
    // before it is told to go on: which of the two is faster does not matter.
    let ending = wait(Which::Pid(intermediate), true).context(|| "wait for the intermediate process")?;
    let early = || Err(Error::system("the process that was to join namespaces ended early"));
    if matches!(ending, Some((_, Ending::Killed(_)))) {
        return early();
    }
    match channel.receive()? {
        Some(Message::Child(pidfd)) => {
            let pid = pid_of(&pidfd).context(|| "make a process in other namespaces (clone3)")?;
            // A child that is gone already has left its end of the channel.
            let _ = channel.send(&Message::Go);
            Ok((pid, pidfd))
        }
        Some(Message::Failed(error)) => Err(error),
        _ => early(),
    }
}

struct Child;

fn intermediate(plan: &InitPlan, handles: &mut Handles, flags: u64, from_within: bool) -> Result<Option<Child>> {
    // The user namespace's root may look into whoever is in it, and a PID namespace that is joined has processes that see
    // the first process from its birth. Becoming root does this too, but not where that is root of the host.
    prctl::set_dumpable(false).context(|| "be out of the reach of other processes")?;
    handles.close_all_others(plan.preserve_fds)?;
    handles.joined.join_early()?;
    if plan.namespaces.joins(Namespace::User) {
        namespaces::join(&handles.joined, |kind| kind == Namespace::User)?;
    }
    if let Some(pids) = handles.joined.get(Namespace::Pid).filter(|_| from_within) {
        namespaces::join_for_children(pids)?;
    }
    if plan.namespaces.joins(Namespace::User) {
        namespaces::become_root()?;
    }
    match clone(flags, None, true).context(|| "make the container's first process (clone3)")? {
        Cloned::Child => Ok(Some(Child)),
        Cloned::Parent { pidfd, .. } => {
            // Its pid here may be one of another PID namespace.
            handles.channel.send(&Message::Child(pidfd))?;
            Ok(None)
        }
    }
}

/// The pid that `pidfd` stands for in this process's PID namespace (proc_pid_fdinfo(5)).
fn pid_of(pidfd: &OwnedFd) -> Result<i32> {
    let proc = procfs::handle()?;
    let path = format!("self/fdinfo/{}", pidfd.as_raw_fd());
    let text = procfs::read(proc.as_fd(), &path).context(|| format!("read /proc/{path}"))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| Error::system("the first process has no pid here"))
}
