//! The container's side of clone3: one sequence from the clone to execve.
//!
//! Who wants to know when a thing happens inside reads [`prepare`] and [`begin`] from top to bottom; what each step does
//! is its slice's business. A process that joins a container later has a sequence of its own, in [`join`]; the last steps
//! of both are in [`become_process`].

pub mod attend;
mod become_process;
mod channel;
mod gate;
mod hand_over;
mod join;
mod stage;

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{sethostname, setsid};
use oci_spec::runtime::ContainerState;
use serde::Serialize;

use crate::error::{Context, Result};
use crate::hooks::{self, HooksPlan};
use crate::host::procfs;
use crate::namespaces::{self, Namespace, NamespacesPlan};
use crate::process::{self, Activation, Command, ProcessPlan};
use crate::rootfs::{Root, RootfsPlan, Sources};
use crate::seccomp::SeccompPlan;
use crate::sys;
use crate::terminal::TerminalPlan;
use crate::terminal::pty::Pty;
use crate::terminal::signals::Signals;
use crate::terminal::stdio;

pub use channel::{Channel, Message, decode_error};
pub use gate::Gate;
pub use join::{Container, JoinHandles, JoinPlan, clone_joining_process};
pub use stage::clone_first_process;

/// All that the container's side carries out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InitPlan {
    /// The container's id.
    pub id: String,
    /// The bundle's directory: where hooks run.
    pub bundle: PathBuf,
    /// Its namespaces.
    pub namespaces: NamespacesPlan,
    /// Its root.
    pub rootfs: RootfsPlan,
    /// Its terminal, if it has one.
    pub terminal: Option<TerminalPlan>,
    /// Its hooks.
    pub hooks: HooksPlan,
    /// Its process.
    pub process: ProcessPlan,
    /// Its filter of system calls.
    pub seccomp: Option<SeccompPlan>,
    /// It keeps the caller's session keyring.
    pub keep_keyring: bool,
    /// How many descriptors from 3 on it gets.
    pub preserve_fds: u32,
    /// What it is told of a service manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// The first process stays procrt's: it has the container's program as a child, reaps what that leaves, says how it
    /// ended, and ends then. It is killed with the process that has made it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub attended: bool,
    /// Attended, and without a program of its own: others join.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// A network namespace of its own has no interface that is up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_loopback: bool,
    /// It opens the mounts that its root is made of by itself: nobody outside of its user namespace has privileges there.
    #[serde(skip)]
    pub opens_sources: bool,
    /// It waits for its ids to be mapped, for its network devices, or for control groups that it was not born in.
    #[serde(skip)]
    pub waits: bool,
}

/// What the host's side has opened for the container's.
#[derive(Debug)]
pub struct Handles {
    /// The channel's end.
    pub channel: Channel,
    /// Namespaces to join.
    pub joined: namespaces::Handles,
    /// The mounts that the root is made of, where only the host's side may open them.
    pub sources: Option<Sources>,
    /// The start gate.
    pub gate: Gate,
    /// Where whoever opens the gate is met, if the filter has a listener to be given: a listening socket.
    pub meeting: Option<OwnedFd>,
    /// The container's state for hooks; status and pid are filled in.
    pub state: oci_spec::runtime::State,
}

impl Handles {
    /// In the cloned child: closes what it has inherited beside these and the `preserved` ones from 3 on. Of the host's
    /// side's own, one would keep the container's lock with whoever lives longest, and others are directories of the host's.
    fn close_all_others(&self, preserved: u32) -> Result<()> {
        let handles = self.joined.all().chain(self.sources.iter().flat_map(Sources::all)).chain(self.gate.as_fd());
        let handles = handles.chain(self.meeting.as_ref().map(AsFd::as_fd));
        let mut kept: Vec<RawFd> = handles.chain([self.channel.as_fd()]).map(as_raw).collect();
        close_all_but(preserved, &mut kept)
    }
}

fn as_raw(fd: BorrowedFd) -> RawFd {
    fd.as_raw_fd()
}

fn close_all_but(preserved: u32, kept: &mut [RawFd]) -> Result<()> {
    sys::process::close_all_but(3 + preserved, kept).context(|| "close what belongs to the host's side")?;
    // The log's file was among it.
    log::set_max_level(log::LevelFilter::Off);
    Ok(())
}

/// Everything from the clone to execve; `signals` are those that the caller holds back. Returns never: a failure is told
/// to the host's side, and the process ends.
pub fn run(plan: &InitPlan, handles: Handles, signals: Option<&Signals>) -> ! {
    let closed = handles.close_all_others(plan.preserve_fds);
    let Handles { channel, joined, sources, gate, meeting, state } = handles;
    let waiting = (&gate, meeting.as_ref());
    let prepared = match closed.and_then(|()| prepare(plan, &channel, joined, sources, waiting, &state)) {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = channel.send(&Message::Failed(error));
            sys::process::exit_now(1)
        }
    };
    let Prepared { proc, command, pid } = prepared;
    let Ok(opened) = gate.wait(&channel, proc.as_fd()) else { sys::process::exit_now(1) };
    drop(gate);
    if plan.held {
        let Err(error) = attend::hold(&channel, proc);
        opened.fail(&channel, &error);
        sys::process::exit_now(1);
    }
    // Nothing of the host's is left: a hook and the program can come from the image.
    drop(proc);
    if plan.attended
        && let Err(error) = attend::part(&channel, plan.terminal.is_some())
    {
        opened.fail(&channel, &error);
        sys::process::exit_now(1);
    }
    let met = meeting.as_ref().map(|meeting| Channel::accept(meeting.as_fd())).transpose();
    drop(meeting);
    let Err(error) =
        met.and_then(|met| begin(plan, command.as_ref(), pid, signals, &state, met.as_ref().unwrap_or(&channel)));
    opened.fail(&channel, &error);
    sys::process::exit_now(1)
}

/// What is left of the preparations when the container is started.
struct Prepared {
    proc: OwnedFd,
    /// None if the configuration has no process.
    command: Option<Command>,
    /// The pid on the host, for hooks.
    pid: i32,
}

/// Steps up to the start gate: after this the process is the container's, but for its program.
fn prepare(
    plan: &InitPlan,
    channel: &Channel,
    joined: namespaces::Handles,
    sources: Option<Sources>,
    (gate, meeting): (&Gate, Option<&OwnedFd>),
    state: &oci_spec::runtime::State,
) -> Result<Prepared> {
    // 1. Nothing of a container that is not finished outlives its maker.
    prctl::set_pdeathsig(Signal::SIGKILL).context(|| "be killed with the parent")?;
    let proc = procfs::handle()?;
    let pid = if plan.hooks.run_inside() { own_pid(proc.as_fd())? } else { 0 };

    // 2. What it can do before its ids are mapped and its control groups are there, which the host's side sees to
    //    meanwhile: the namespaces that are joined, a session, the root's own mount.
    namespaces::join(&joined, |kind| !matches!(kind, Namespace::User | Namespace::Pid))?;
    drop(joined);
    if plan.namespaces.makes(Namespace::Network) && !plan.no_loopback {
        namespaces::bring_up_loopback()?;
    }
    setsid().context(|| "begin a session")?;
    process::forget_affinity()?;
    Root::set_propagation(&plan.rootfs)?;
    let sources = if plan.namespaces.restricts_mounts() {
        let received =
            if plan.opens_sources { None } else { channel.wait_for_sources(Sources::count(&plan.rootfs))? };
        Some(match received {
            Some(trees) => Sources::received(trees, &plan.rootfs)?,
            None => Sources::open_all(&plan.rootfs)?,
        })
    } else {
        sources
    };
    let (tree, binds) = Sources::complete(sources, &plan.rootfs)?;
    let mut root = Root::attach(&plan.rootfs, tree)?;

    // 3. It is in its control groups and root of its user namespace before it makes anything; a cgroup namespace has its
    //    root where the process is that makes it.
    if plan.waits {
        channel.wait_to_enter()?.enter()?;
    }
    if plan.namespaces.has(Namespace::User) {
        namespaces::become_root()?;
    }
    if plan.namespaces.makes(Namespace::Cgroup) {
        unshare(CloneFlags::CLONE_NEWCGROUP).context(|| "make a cgroup namespace")?;
    }
    if plan.namespaces.makes(Namespace::Time) {
        namespaces::enter_time(&plan.namespaces, proc.as_fd())?;
    }
    if !plan.keep_keyring {
        process::new_session_keyring(&plan.id, &plan.process, Some(proc.as_fd()))?;
    }

    // 4. The root: its mounts, devices and terminal.
    let callers = umask(Mode::empty());
    root.furnish()?;
    root.mount_all(binds)?;
    root.make_devices()?;
    root.take_notes().into_iter().try_for_each(|note| channel.send(&Message::Note(note)))?;
    root.make_cwd()?;
    if let Some(terminal) = &plan.terminal {
        let pty = Pty::open(root.open_ptmx()?, terminal.size)?;
        root.attach_console(pty.slave())?;
        pty.give_to(plan.process.uid)?;
        let master = pty.master().try_clone_to_owned().context(|| "copy the terminal's descriptor")?;
        channel.send(&Message::Terminal(master))?;
        pty.adopt()?;
    }
    umask(callers);

    // 5. Hooks, in the host's namespaces and then in the container's.
    if plan.hooks.run_on_host_at_create() {
        channel.send(&Message::Hooks)?;
        channel.wait_for_go()?;
    }
    run_hooks("createContainer", &plan.hooks.create_container, plan, state, (pid, ContainerState::Created), true)?;

    // 6. The root becomes `/`.
    root.become_slash()?;
    root.protect()?;
    if let Some(name) = &plan.namespaces.hostname {
        sethostname(name).context(|| format!("hostname: set {name:?}"))?;
    }
    if let Some(name) = &plan.namespaces.domainname {
        sys::process::set_domain_name(name).context(|| format!("domainname: set {name:?}"))?;
    }
    namespaces::apply_sysctl(&plan.namespaces, proc.as_fd())?;

    // 7. The process becomes the container's.
    process::set_limits(&plan.process, proc.as_fd())?;
    if plan.terminal.is_none() && !plan.attended {
        stdio::give_to(plan.process.uid)?;
    }
    // With the container's user and capabilities it would be open to whoever else has them and sees it.
    prctl::set_dumpable(false).context(|| "be out of the reach of other processes")?;
    drop(root);
    let mut kept: Vec<_> = [channel.as_fd(), proc.as_fd()].into_iter().chain(gate.as_fd()).map(as_raw).collect();
    kept.extend(meeting.map(AsRawFd::as_raw_fd));
    let told = plan.activation.as_ref().map(|activation| activation.told(&plan.process, std::process::id()));
    let nothing = plan.held.then(|| ProcessPlan { args: Vec::new(), ..plan.process.clone() });
    let process = nothing.as_ref().or(told.as_ref()).unwrap_or(&plan.process);
    let command = become_process::prepare(process, plan.seccomp.is_some(), plan.preserve_fds, &mut kept)?;

    // 8. From here on it lives on its own; or as long as its maker, which the kernel forgets when a process becomes another
    //    user. A maker that was gone before is missed at the gate.
    let signal = plan.attended.then_some(Signal::SIGKILL);
    prctl::set_pdeathsig(signal).context(|| "outlive the parent, or not")?;
    channel.send(&Message::Ready)?;
    Ok(Prepared { proc, command, pid })
}

/// Steps from the start gate to the program.
fn begin(
    plan: &InitPlan,
    command: Option<&Command>,
    pid: i32,
    signals: Option<&Signals>,
    state: &oci_spec::runtime::State,
    channel: &Channel,
) -> Result<Infallible> {
    run_hooks("startContainer", &plan.hooks.start_container, plan, state, (pid, ContainerState::Created), false)?;
    let filter = plan.seccomp.as_ref().map(SeccompPlan::finished);
    become_process::begin(&plan.process, filter, command, signals, channel)
}

fn run_hooks(
    kind: &str,
    list: &[hooks::Hook],
    plan: &InitPlan,
    state: &oci_spec::runtime::State,
    (pid, status): (i32, ContainerState),
    on_host: bool,
) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let cwd = on_host.then_some(plan.bundle.as_path());
    hooks::run(kind, list, &hooks::state_json(state, pid, status)?, cwd, None)
}

/// This process's pid as the host's procfs has it.
fn own_pid(proc: BorrowedFd) -> Result<i32> {
    let link = nix::fcntl::readlinkat(proc, "self").context(|| "read /proc/self")?;
    link.to_str().and_then(|pid| pid.parse().ok()).ok_or_else(|| crate::error::Error::system("/proc/self is no pid"))
}
