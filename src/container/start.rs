//! Starting a created container, and running one in a single go.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::ContainerState;

use super::create::{self, Created, Start, read_to_end};
use super::delete::{destroy, end_processes};
use super::readiness::{Listener, Manager};
use super::record::Record;
use super::store::{Entry, Store};
use super::{CreateOptions, RunOptions, Status};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::init::{Channel, Message, decode_error};
use crate::sys::child::{Which, wait};
use crate::sys::process::pidfd_send_signal;
use crate::terminal;
use crate::terminal::signals::Signals;

/// Lets a created container's process run. With a `manager`, returns when the process has said that it is ready, which the
/// manager is told, or has ended.
///
/// # Errors
/// [`Kind::NotFound`], or [`Kind::State`] if it was started before. What fails in the container on the way to its program
/// (a hook, the filter, the program itself) is this function's error, and the container is destroyed as the
/// specification's lifecycle has it.
pub fn start(store: &Store, id: &str, manager: Option<Manager>) -> Result<()> {
    let entry = store.lock(id)?;
    let record = entry.read()?.ok_or_else(|| wrong_state(id, Status::Creating))?;
    match record.status(&entry)? {
        Status::Created => {}
        Status::Stopped => {
            return Err(Error::new(Kind::State, format!("start {id:?}: cannot start a container that has stopped")));
        }
        status => return Err(wrong_state(id, status)),
    }
    let pidfd = record.process.map(super::record::ProcessId::open).transpose()?.flatten();
    let pidfd = pidfd
        .ok_or_else(|| Error::new(Kind::State, format!("start {id:?}: cannot start a container that has stopped")))?;
    if record.nothing_to_start {
        // The specification wants an error without saying how it is to be told, and callers who made such a container
        // expect it to have ended then, not `start` to fail.
        log::error!("start {id:?}: process: is missing, so the container ends without having run anything");
        end_processes(&entry, Some(&record))?;
        return entry.remove_gate();
    }
    let listener = manager.map(|_| Listener::bind(&entry)).transpose()?.flatten();
    let channel = if record.notifies() { entry.meet()?.map(Channel::of_connected) } else { None };
    let gate = entry.open_gate()?;
    let failure = wait_for_exec(&gate, pidfd.as_fd(), channel, &record)?;
    if let Some(error) = failure {
        end(&entry, &record, &Cgroup::open(&record.cgroups), &pidfd);
        return Err(error.context(format!("start {id:?}")));
    }
    run_poststart(&entry, &record, &pidfd)?;
    // Waiting takes as long as the service does: meanwhile others may change the container.
    drop(entry);
    let pid = record.process.map(|process| process.pid);
    match (listener, manager) {
        (Some(listener), Some(manager)) => listener.relay(manager, pidfd.as_fd(), pid),
        _ => Ok(()),
    }
}

fn wrong_state(id: &str, status: Status) -> Error {
    let status = match status {
        Status::Creating => "creating",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Created => "created",
        Status::Stopped => "stopped",
    };
    Error::new(Kind::State, format!("start {id:?}: cannot start a container in the {status} state"))
}

/// Waits until the process behind the gate has become its program, or has said why not.
/// What it has to hand over before that comes on `channel`, if there is one.
fn wait_for_exec(
    gate: &OwnedFd,
    pidfd: BorrowedFd,
    mut channel: Option<Channel>,
    record: &Record,
) -> Result<Option<Error>> {
    let mut said = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(gate.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd, PollFlags::POLLIN)];
        fds.extend(channel.as_ref().map(|channel| PollFd::new(channel.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            answer => answer.context(|| "wait for the container's process")?,
        };
        let happened = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
        let gate_events = fds[0].revents().unwrap_or(PollFlags::empty());
        let (ended, heard) = (happened(&fds[1]), fds.get(2).is_some_and(happened));
        if let Some(channel) = channel.take_if(|_| heard) {
            match take_listener(&channel, record) {
                Ok(()) => continue,
                Err(error) => return Ok(Some(error)),
            }
        }
        said.extend(read_to_end(gate.as_fd())?);
        // Its end of the gate closes at execve, and when it dies.
        if gate_events.contains(PollFlags::POLLHUP) || ended && was_open(gate.as_fd()) {
            return Ok((!said.is_empty()).then(|| decode_error(&said)));
        }
        if ended {
            return Ok(Some(Error::new(Kind::State, "the container's process was ended before it could be started")));
        }
    }
}

/// Takes the listener of the filter that a container's first process is under now, and passes it on; it goes on then. It
/// may be gone instead, which is known by another way.
fn take_listener(channel: &Channel, record: &Record) -> Result<()> {
    match channel.receive()? {
        Some(Message::Listener(listener)) => {
            let pid = record.process.map_or(0, |process| process.pid);
            record.pass_on(listener.as_fd(), pid, ContainerState::Created)?;
            // A process that is gone already has nobody to wait for.
            let _ = channel.send(&Message::Go);
            Ok(())
        }
        Some(_) => Err(Error::system("the container's process says what is not its to say")),
        None => Ok(()),
    }
}

/// Whether somebody has opened the gate's other end and closed it again.
fn was_open(gate: BorrowedFd) -> bool {
    let mut fds = [PollFd::new(gate, PollFlags::POLLIN)];
    while let Err(Errno::EINTR) = poll(&mut fds, PollTimeout::ZERO) {}
    fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

fn run_poststart(entry: &Entry, record: &Record, pidfd: impl AsFd) -> Result<()> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let pid = record.process.map_or(0, |process| process.pid);
    let state = hooks::state_json(&record.oci_state(), pid, ContainerState::Running)?;
    hooks::run("poststart", &record.poststart, &state, Some(&record.bundle), None)
        .inspect_err(|_| end(entry, record, &Cgroup::open(&record.cgroups), &pidfd))
}

/// Kills and destroys a container for a failure, which is what the caller is to be told of.
fn end(entry: &Entry, record: &Record, cgroup: &Cgroup, pidfd: impl AsFd) {
    let _ = pidfd_send_signal(pidfd, libc::SIGKILL);
    if let Err(error) = destroy(entry, record, Some(cgroup)) {
        log::warn!("{error}");
    }
}

/// Creates and starts a container; in the foreground, waits for it and answers its exit status (128 + signal if killed).
///
/// # Errors
/// As `create` and [`start`].
pub fn run(store: &Store, options: &CreateOptions, run: RunOptions) -> Result<i32> {
    if !run.detach && run.subreaper {
        nix::sys::prctl::set_child_subreaper(true).context(|| "become a subreaper")?;
    }
    // Signals that come from here on are the container's, or are kept until it has ended.
    let signals = (!run.detach).then(Signals::block).transpose()?.map(Box::new);
    let Created { mut entry, record, cgroup, pid, pidfd, channel, master, signals } =
        create::create(store, options, Start::Now(signals))?;
    let listener = run.manager.map(|_| Listener::bind(&entry)).transpose();
    let listener = listener.inspect_err(|_| end(&entry, &record, &cgroup, &pidfd))?.flatten();
    let relay = listener.zip(run.manager);
    // Its end of the channel closes at execve. Where nobody takes the message, somebody has ended it.
    let notified = |listener: OwnedFd| {
        record.pass_on(listener.as_fd(), pid, ContainerState::Created)?;
        channel.send(&Message::Go)?;
        channel.receive()
    };
    let answer = channel.send(&Message::Go).and_then(|()| channel.receive());
    let answer = answer.and_then(|message| match message {
        Some(Message::Listener(listener)) => notified(listener),
        other => Ok(other),
    });
    let failed = match answer {
        Ok(Some(Message::Failed(error))) | Err(error) => Some(error),
        Ok(_) => None,
    };
    if let Some(error) = failed {
        let _ = pidfd_send_signal(&pidfd, libc::SIGKILL);
        let _ = wait(Which::Pid(pid), true);
        end(&entry, &record, &cgroup, &pidfd);
        return Err(error);
    }
    drop(channel);
    run_poststart(&entry, &record, &pidfd)?;
    entry.unlock();
    let Some(signals) = signals else {
        relay.map_or(Ok(()), |(listener, manager)| listener.relay(manager, pidfd.as_fd(), Some(pid)))?;
        return Ok(0);
    };
    // To the manager, this process is the service's main one.
    let relay = relay.map(|(listener, manager)| listener.relay_meanwhile(manager, &pidfd)).transpose();
    let relay = relay.inspect_err(|_| end(&entry, &record, &cgroup, &pidfd))?;
    let status = terminal::foreground::supervise(&signals, pid, pidfd.as_fd(), master, run.subreaper);
    if status.is_ok() {
        // It ends with the process. Hooks, which take a fork, find this process with one thread.
        let _ = relay.map(JoinHandle::join);
    }
    if run.keep {
        return status;
    }
    finish(store, &record, &cgroup)?;
    status
}

/// Removes what a container in the foreground leaves, unless somebody has done so.
fn finish(store: &Store, record: &Record, cgroup: &Cgroup) -> Result<()> {
    match store.lock(&record.id) {
        // Whoever has removed it has left its id to others, who may have taken it by now.
        Ok(entry) if entry.read()?.is_none_or(|found| found.process != record.process) => Ok(()),
        Ok(entry) => destroy(&entry, record, Some(cgroup)),
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
