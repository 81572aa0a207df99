//! Running a process in a container that is there: the host's side, one sequence.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use oci_spec::runtime::ContainerState;

use super::Status;
use super::create::{check_preserved, early_end, write_pid_file};
use super::exec_plan::{self, ExecOptions};
use super::record::{ProcessId, Record};
use super::store::Store;
use crate::cgroup::{self, Cgroup};
use crate::error::{Context, Error, Faults, Kind, Result};
use crate::host::caller::Caller;
use crate::init::{self, Channel, JoinHandles, JoinPlan, Message};
use crate::process;
use crate::sys::child::{ChildrenKept, Which, wait};
use crate::sys::process::pidfd_send_signal;
use crate::terminal;
use crate::terminal::console;
use crate::terminal::signals::Signals;

/// A process that runs in the container, as a child of this one.
#[derive(Debug)]
pub struct Joined {
    /// Its pid.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// Its terminal's master end, if nobody else was sent it.
    pub master: Option<OwnedFd>,
    /// The control groups that it was born in.
    pub cgroup: Cgroup,
    /// The container's control groups.
    pub whole: Cgroup,
    /// What the container had used before, if the process has a control group of its own.
    pub before: cgroup::Usage,
}

/// Runs a process in a container; in the foreground, waits for it and answers its exit status (128 + signal if killed).
///
/// # Errors
/// As [`join`].
pub fn exec(store: &Store, options: &ExecOptions) -> Result<i32> {
    let _children = ChildrenKept::new().context(|| "watch children")?;
    // Signals that come from here on are the process's, or are kept until it has ended.
    let signals = (!options.detach).then(Signals::block).transpose()?;
    let Joined { pid, pidfd, master, .. } = join(store, options, signals.as_ref())?;
    match signals {
        Some(signals) => terminal::foreground::supervise(&signals, pid, pidfd.as_fd(), master, false),
        None => Ok(0),
    }
}

/// Makes a process in a container, up to its program. `signals` are those that the caller holds back. With
/// [`ExecOptions::new_cgroup`] it is born in a control group of that name inside the container's, which is made.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::State`] if the container is stopped, being created, or paused without
/// [`ExecOptions::ignore_paused`]; what is wrong with the options; or what failed in the container on the way to the program.
pub fn join(store: &Store, options: &ExecOptions, signals: Option<&Signals>) -> Result<Joined> {
    // 1. The container as it is now, by its first process, which cannot be mistaken for another from here on.
    let entry = store.find(&options.id)?;
    let record = entry.read()?.ok_or_else(|| refused(&options.id, Status::Creating))?;
    let status = match record.status(&entry)? {
        Status::Created => ContainerState::Created,
        Status::Running => ContainerState::Running,
        Status::Paused if options.ignore_paused => ContainerState::Running,
        status => return Err(refused(&options.id, status)),
    };
    let waits = status == ContainerState::Created;
    let first = record.process.map(ProcessId::open).transpose()?.flatten();
    let first = first.ok_or_else(|| refused(&options.id, Status::Stopped))?;

    // 2. Decide: what is wrong is found before anything is made.
    let mut faults = Faults::default();
    let plan = exec_plan::plan(options, record.joining.clone(), &mut faults)?;
    let own = options.new_cgroup.as_slice();
    let cgroups = cgroup::inside(&record.cgroups, if own.is_empty() { &options.cgroups } else { own }, &mut faults);
    faults.into_result()?;
    check_preserved(0, options.preserve_fds)?;
    if let Some(listener) = plan.container.seccomp.as_ref().and_then(|filter| filter.listener.as_ref()) {
        listener.check()?;
    }
    let console = options.console_socket.as_deref().map(console::connect).transpose()?;
    let pidfd_socket = options.pidfd_socket.as_deref().map(console::connect).transpose()?;

    // 3. The process, born in the container's cgroup, up to its program.
    let root = record.mounts_on_host.map(|_| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(&record.rootfs, flags, Mode::empty()).context(|| "open the container's root")
    });
    let (ours, theirs) = Channel::pair()?;
    let whole = Cgroup::open(&record.cgroups);
    let mut before = cgroup::Usage::default();
    if !own.is_empty() {
        before = whole.usage();
        cgroup::make_inside(&cgroups)?;
    }
    let cgroup = Cgroup::open(&cgroups);
    let entrance = cgroup.entrance().and_then(|mut entrance| {
        if let Some(groups) = &record.resctrl {
            entrance.tasks.extend(groups.open_tasks()?);
        }
        Ok(entrance)
    });
    let handles =
        entrance.and_then(|entrance| Ok(JoinHandles { channel: theirs, entrance, first, root: root.transpose()? }));
    let joined = handles.and_then(|handles| {
        let (pid, pidfd) = clone(&plan, &handles, signals, &ours, &cgroup, &record)?;
        drop(handles);
        let pass_on = |listener: OwnedFd| record.pass_on(listener.as_fd(), pid, status);
        let told = lead(&ours, pid, console.as_ref(), pass_on).and_then(|master| {
            tell(options, pid, &pidfd, pidfd_socket.as_ref())?;
            Ok(master)
        });
        match told {
            Ok(master) => Ok((pid, pidfd, master)),
            Err(error) => {
                let _ = pidfd_send_signal(&pidfd, libc::SIGKILL);
                let _ = wait(Which::Pid(pid), true);
                Err(error)
            }
        }
    });
    match joined {
        Ok((pid, pidfd, master)) => Ok(Joined { pid, pidfd, master, cgroup, whole, before }),
        // Whatever failed: a container that has ended meanwhile is the reason.
        Err(error) => {
            if !own.is_empty() {
                let _ = cgroup.remove_if_free();
            }
            Err(match error.kind() {
                Kind::System if record.process.is_none_or(ProcessId::is_ending) => {
                    refused(&options.id, Status::Stopped)
                }
                // Until it has become its program nobody but root may look into it, whose namespaces are to be joined.
                Kind::System if error.errno() == Some(libc::EPERM) && waits && is_plain() => {
                    let why = "a plain user joins a container when it has been started, and not while it waits to be";
                    error.context(format!("exec in {:?}: {why}", options.id))
                }
                _ => error.context(format!("exec in {:?}", options.id)),
            })
        }
    }
}

fn is_plain() -> bool {
    Caller::find().is_ok_and(|caller| caller.is_plain())
}

fn refused(id: &str, status: Status) -> Error {
    let why = match status {
        Status::Paused => "cannot exec in a paused container (use --ignore-paused to override)",
        Status::Creating => "cannot exec in a container that is being created",
        _ => "cannot exec in a stopped container",
    };
    Error::new(Kind::State, format!("exec in {id:?}: {why}"))
}

fn clone(
    plan: &JoinPlan,
    handles: &JoinHandles,
    signals: Option<&Signals>,
    ours: &Channel,
    cgroup: &Cgroup,
    record: &Record,
) -> Result<(i32, OwnedFd)> {
    let initial = &plan.container.process.exec_affinity.initial;
    let clone = |plan: &JoinPlan, into| {
        let place = |pid| match &record.unit {
            Some(unit) => unit.attach(&inside_unit(cgroup, record), pid),
            None => Ok(()),
        };
        let make = || init::clone_joining_process(plan, handles, signals, ours, into, place);
        process::with_affinity(initial, make)?
    };
    let born = match clone(plan, cgroup.birth_fd()?)? {
        // The container has moved its processes into cgroups of its own making: this one goes where its first one is.
        Err(Errno::EBUSY) if *cgroup.cgroups() == record.cgroups => {
            let pid = record.process.map_or(0, |process| process.pid);
            match cgroup.birth_fd_beside(pid)? {
                Some(beside) => clone(plan, Some(beside.as_fd()))?,
                None => Err(Errno::EBUSY),
            }
        }
        // A user's manager may have made it where that user brings nobody in from a session's control group.
        Err(Errno::EACCES) if record.unit.is_some() => clone(&JoinPlan { waits: true, ..plan.clone() }, None)?,
        born => born,
    };
    born.context(|| "make the process (clone3)").map_err(|error| cgroup.explain_birth(error))
}

/// Where in its unit's control group the process is to be.
fn inside_unit(cgroup: &Cgroup, record: &Record) -> PathBuf {
    let places = (cgroup.cgroups().0.first(), record.cgroups.0.first());
    let (Some(place), Some(own)) = places else { return PathBuf::new() };
    place.path.strip_prefix(&own.path).map(Path::to_owned).unwrap_or_default()
}

/// Answers the process until it has become its program; gives the terminal's master end, if it is nobody else's.
fn lead(
    channel: &Channel,
    pid: i32,
    console: Option<&OwnedFd>,
    pass_on: impl Fn(OwnedFd) -> Result<()>,
) -> Result<Option<OwnedFd>> {
    let mut master = None;
    let mut ready = false;
    loop {
        match channel.receive()? {
            Some(Message::Terminal(fd)) => {
                match console {
                    Some(socket) => console::send_master(socket.as_fd(), fd.as_fd())?,
                    None => {
                        terminal::relay::fit(fd.as_fd());
                        master = Some(fd);
                    }
                }
                // A process that is gone already has left its reason on the channel.
                let _ = channel.send(&Message::Go);
            }
            Some(Message::Ready) => ready = true,
            Some(Message::Listener(listener)) => {
                pass_on(listener)?;
                let _ = channel.send(&Message::Go);
            }
            Some(Message::Failed(error)) => return Err(error),
            Some(_) => return Err(Error::system("the process says what is not its to say")),
            // Its end of the channel closes at execve.
            None if ready => return Ok(master),
            None => return Err(early_end("the process", pid)),
        }
    }
}

fn tell(options: &ExecOptions, pid: i32, pidfd: &OwnedFd, pidfd_socket: Option<&OwnedFd>) -> Result<()> {
    if let Some(socket) = pidfd_socket {
        console::send_pidfd(socket.as_fd(), console::PIDFD_OF_EXEC, pidfd.as_fd())?;
    }
    options.pid_file.as_deref().map_or(Ok(()), |path| write_pid_file(path, pid))
}
