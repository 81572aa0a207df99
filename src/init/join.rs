//! The container's side of `exec`: one sequence from the clone to execve, for a process that joins a container.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{chroot, fchdir, setsid};
use serde::{Deserialize, Serialize};

use super::{Channel, Message, become_process, close_all_but, stage};
use crate::cgroup::Entrance;
use crate::error::{Context, Result};
use crate::host::procfs;
use crate::namespaces::{self, ChildrenElsewhere, Namespace};
use crate::process::{self, ProcessPlan};
use crate::rootfs;
use crate::seccomp::Filter;
use crate::sys::child::{Which, wait};
use crate::sys::process::{Cloned, clone, exit_now, pidfd_open, pidfd_send_signal};
use crate::terminal::TerminalPlan;
use crate::terminal::pty::Pty;
use crate::terminal::signals::Signals;
use crate::terminal::stdio;

/// What is kept of a container for processes that join it: its configuration's text may be another by then.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The kinds of namespaces that it has of its own.
    pub namespaces: Vec<Namespace>,
    /// Its process.
    pub process: ProcessPlan,
    /// Its filter of system calls.
    pub seccomp: Option<Filter>,
    /// It has the session keyring of whoever made it.
    pub keep_keyring: bool,
}

/// All that a joining process carries out.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinPlan {
    /// The container's id.
    pub id: String,
    /// The container; its process is the one that joins.
    pub container: Container,
    /// The joining process's terminal, if it has one.
    pub terminal: Option<TerminalPlan>,
    /// How many descriptors from 3 on it gets.
    pub preserve_fds: u32,
    /// It waits until somebody has moved it to the container's control group.
    pub waits: bool,
    /// It is killed when its maker ends.
    pub attended: bool,
}

/// What the host's side has opened for a joining process.
#[derive(Debug)]
pub struct JoinHandles {
    /// The channel's end.
    pub channel: Channel,
    /// The way into the control groups that clone3 does not take it into.
    pub entrance: Entrance,
    /// A pidfd of the container's first process.
    pub first: OwnedFd,
    /// The container's root, if it is in the host's mount namespace.
    pub root: Option<OwnedFd>,
}

impl JoinHandles {
    /// In the cloned child: closes what it has inherited beside these and the `preserved` ones from 3 on.
    fn close_all_others(&self, preserved: u32) -> Result<()> {
        let mut kept = vec![self.channel.as_fd().as_raw_fd(), self.first.as_raw_fd()];
        kept.extend(self.entrance.tasks.iter().chain(&self.root).map(AsRawFd::as_raw_fd));
        close_all_but(preserved, &mut kept)
    }
}

/// A process that was made, or why none was born.
type Born = std::result::Result<(i32, OwnedFd), Errno>;

/// Makes a process that joins a container, as a child of the caller, born in the cgroup v2 directory `cgroup` and in the
/// container's PID namespace; `signals` are those that the caller holds back, and `ours` the other end of the channel. If the
/// plan has it wait, `place` is called with its pid, and has it in the container's control group when that returns.
/// Answers its pid and a pidfd, or clone3(2)'s number if none could be born in `cgroup`.
///
/// # Errors
/// As setns(2), and those of `place`.
pub fn clone_joining_process(
    plan: &JoinPlan,
    handles: &JoinHandles,
    signals: Option<&Signals>,
    ours: &Channel,
    cgroup: Option<BorrowedFd>,
    place: impl FnOnce(i32) -> Result<()>,
) -> Result<Born> {
    let Container { namespaces, .. } = &plan.container;
    let own_pids = namespaces.contains(&Namespace::Pid);
    let elsewhere = match own_pids.then(|| ChildrenElsewhere::begin(handles.first.as_fd())).transpose() {
        // A plain user may have children in a PID namespace only from within the user namespace that it belongs to; and who
        // is root of that alone does not come back.
        Err(error) if error.errno() == Some(libc::EPERM) => {
            return clone_from_within(plan, handles, signals, ours, cgroup, place);
        }
        elsewhere => elsewhere?,
    };
    let made = match clone(0, cgroup, false) {
        Ok(Cloned::Child) => run(plan, handles, signals, || Ok(())),
        Ok(Cloned::Parent { pid, pidfd }) => let_on(plan, ours, pid, place).map(|()| Ok((pid, pidfd))),
        Err(errno) => Ok(Err(errno)),
    };
    elsewhere.map_or(Ok(()), ChildrenElsewhere::end)?;
    made
}

/// Has a process that waits for it in its control group; one that cannot be there is ended.
fn let_on(plan: &JoinPlan, ours: &Channel, pid: i32, place: impl FnOnce(i32) -> Result<()>) -> Result<()> {
    if !plan.waits {
        return Ok(());
    }
    // One that is gone already has left its reason on the channel.
    place(pid).map(|()| drop(ours.send(&Message::Go))).inspect_err(|_| {
        let _ = pidfd_open(pid).and_then(|pidfd| pidfd_send_signal(pidfd, libc::SIGKILL));
        let _ = wait(Which::Pid(pid), true);
    })
}

/// The same by an intermediate process, which joins the namespaces and then makes the process as its own sibling.
fn clone_from_within(
    plan: &JoinPlan,
    handles: &JoinHandles,
    signals: Option<&Signals>,
    ours: &Channel,
    cgroup: Option<BorrowedFd>,
    place: impl FnOnce(i32) -> Result<()>,
) -> Result<Born> {
    match clone(0, cgroup, false) {
        Err(errno) => Ok(Err(errno)),
        Ok(Cloned::Parent { pid: intermediate, .. }) => {
            let_on(plan, ours, intermediate, place)?;
            stage::receive_child(intermediate, ours).map(Ok)
        }
        Ok(Cloned::Child) => run(plan, handles, signals, || {
            namespaces::join_for_children(handles.first.as_fd())?;
            match clone(0, None, true).context(|| "make the process (clone3)")? {
                Cloned::Child => {
                    prctl::set_pdeathsig(Signal::SIGKILL).context(|| "be killed with the parent")?;
                    handles.channel.wait_for_go()
                }
                Cloned::Parent { pidfd, .. } => {
                    handles.channel.send(&Message::Child(pidfd))?;
                    exit_now(0)
                }
            }
        }),
    }
}

/// Returns never: a failure is told to the host's side, and the process ends.
fn run(
    plan: &JoinPlan,
    handles: &JoinHandles,
    signals: Option<&Signals>,
    when_joined: impl FnOnce() -> Result<()>,
) -> ! {
    let Err(error) = join(plan, handles, signals, when_joined);
    let _ = handles.channel.send(&Message::Failed(error));
    exit_now(1)
}

fn join(
    plan: &JoinPlan,
    handles: &JoinHandles,
    signals: Option<&Signals>,
    when_joined: impl FnOnce() -> Result<()>,
) -> Result<Infallible> {
    let Container { namespaces, process, seccomp, keep_keyring } = &plan.container;

    // 1. Processes of the container see this one from its birth: none may look into it, and what it has inherited of its
    //    maker's is nothing to be found in it.
    prctl::set_dumpable(false).context(|| "be out of the reach of other processes")?;
    handles.close_all_others(plan.preserve_fds)?;
    let die_with_parent = || prctl::set_pdeathsig(Signal::SIGKILL).context(|| "be killed with the parent");
    die_with_parent()?;

    // 2. The control groups, and what takes the host's privileges and the host's procfs.
    if process.exec_affinity.initial.is_empty() {
        process::forget_affinity()?;
    }
    if plan.waits {
        handles.channel.wait_for_go()?;
    }
    handles.entrance.enter()?;
    process::set_affinity(&process.exec_affinity.last)?;
    let proc = procfs::handle()?;
    process::set_oom_score(process, proc.as_fd(), "self")?;
    process::set_limits(process, proc.as_fd())?;
    // From here on the host's procfs leads out of the container: it is kept for a label of the keyring alone.
    let proc = process.selinux_label.is_some().then_some(proc);

    // 3. The namespaces and the root; a session and the container's keyring.
    namespaces::join_those_of(handles.first.as_fd(), namespaces)?;
    when_joined()?;
    if namespaces.contains(&Namespace::User) {
        namespaces::become_root()?;
        // Another user is another's to end: the kernel has forgotten it.
        die_with_parent()?;
    }
    if let Some(root) = &handles.root {
        fchdir(root).and_then(|()| chroot(".")).context(|| "enter the container's root")?;
    }
    setsid().context(|| "begin a session")?;
    if !keep_keyring {
        process::new_session_keyring(&plan.id, process, proc.as_ref().map(AsFd::as_fd))?;
    }

    drop(proc);

    // 4. Its terminal, or the stdio that it is given.
    match &plan.terminal {
        Some(terminal) => {
            let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            let pty = Pty::open(rootfs::open_ptmx(root.as_fd())?, terminal.size)?;
            pty.give_to(process.uid)?;
            let master = pty.master().try_clone_to_owned().context(|| "copy the terminal's descriptor")?;
            handles.channel.send(&Message::Terminal(master))?;
            // The program is to find a terminal of the right size.
            handles.channel.wait_for_go()?;
            pty.adopt()?;
        }
        None => stdio::give_to(process.uid)?,
    }

    // 5. It becomes the container's, and the program.
    let mut kept = [handles.channel.as_fd().as_raw_fd()];
    let command = become_process::prepare(process, seccomp.is_some(), plan.preserve_fds, &mut kept)?;
    // The kernel has forgotten it when the process became the container's user.
    prctl::set_pdeathsig(plan.attended.then_some(Signal::SIGKILL)).context(|| "outlive the parent, or not")?;
    handles.channel.send(&Message::Ready)?;
    let filter = seccomp.as_ref().map(Filter::finished);
    become_process::begin(process, filter, command.as_ref(), signals, &handles.channel)
}
