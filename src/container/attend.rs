//! A container that lives as long as the process that has made it: of a program's own deciding, without a bundle's files,
//! started at once, ended and removed by its maker, whatever happens to that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::create::{self, Created, Start};
use super::delete::destroy;
use super::plan::{Host, is_rootless, plan_given};
use super::record::Record;
use super::store::{Entry, Store};
use super::{CreateOptions, delete};
use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::host::caller::Caller;
use crate::host::cgroups::{Hierarchies, Layout};
use crate::init::{Channel, Message};
use crate::rootfs::Fresh;
use crate::seccomp::SeccompPlan;
use crate::sys::child::{Ending, Which, wait};
use crate::sys::process::pidfd_send_signal;
use crate::terminal::signals::Signals;

/// What is to be made.
#[derive(Debug, Clone)]
pub struct Given {
    /// The configuration. No file of it need be there; paths in it are absolute.
    pub bundle: Bundle,
    /// A root in memory instead of the configuration's.
    pub fresh: Option<Fresh>,
    /// A filter of system calls that is finished already, instead of the configuration's.
    pub filter: Option<SeccompPlan>,
    /// Its own network has no interface that is up.
    pub no_loopback: bool,
    /// It runs no program: it is kept for processes that [`super::join`] it.
    pub held: bool,
    /// The controllers that it is to be in the control groups of, where each has a hierarchy of its own.
    pub controllers: Vec<&'static str>,
}

/// A container that runs, and ends with this value or with this process, whichever is first.
#[derive(Debug)]
pub struct Attended {
    entry: Entry,
    record: Record,
    cgroup: Cgroup,
    /// Its first process, which is procrt's own.
    first: (i32, OwnedFd),
    channel: Channel,
    /// The program's process.
    program: OwnedFd,
    /// The terminal's master end, if it has one.
    master: Option<OwnedFd>,
    /// Why the program could not be run, if that is known already.
    failed: Option<Error>,
    /// Nothing of it runs any more.
    ended: bool,
    removed: bool,
}

impl Attended {
    /// Makes and starts it. `signals` are held back by the caller, and are not for the program.
    ///
    /// # Errors
    /// Everything that is wrong in the configuration together, or the step that failed; nothing of it is left then.
    pub fn start(store: &Store, options: &CreateOptions, given: &Given, signals: &Signals) -> Result<Self> {
        let mut hierarchies = Hierarchies::find()?;
        if hierarchies.layout != Layout::Unified {
            let wanted = |controller: &String| given.controllers.contains(&controller.as_str());
            hierarchies.list.retain(|hierarchy| hierarchy.controllers.iter().any(wanted));
        }
        let caller = Caller::find()?;
        if is_rootless(options, &caller)? {
            hierarchies = hierarchies.with_delegation()?;
        }
        let host = Host { hierarchies: &hierarchies, systemd: None, caller: &caller };
        let plan = plan_given(options, given, &host)?;
        let created = create::create_planned(store, options, Start::Attended(signals), (&given.bundle, plan), None)?;
        let Created { entry, record, cgroup, pid, pidfd, channel, master, .. } = created;
        let entered = if given.held { stay(&channel, &pidfd).map(|fd| (Some(fd), None)) } else { go(&channel) };
        let program = entered.and_then(|(program, failed)| match program {
            Some(program) => Ok((program, failed)),
            None => Err(failed.unwrap_or_else(|| Error::system("the container's first process has ended early"))),
        });
        let (program, failed) = match program {
            Ok(answer) => answer,
            Err(error) => {
                let _ = pidfd_send_signal(&pidfd, libc::SIGKILL);
                let _ = wait(Which::Pid(pid), true);
                if let Err(left) = destroy(&entry, &record, Some(&cgroup)) {
                    log::warn!("{left}");
                }
                return Err(error);
            }
        };
        let first = (pid, pidfd);
        Ok(Self { entry, record, cgroup, first, channel, program, master, failed, ended: false, removed: false })
    }

    /// Readable when the program's process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// The master end of its terminal, once.
    pub fn take_master(&mut self) -> Option<OwnedFd> {
        self.master.take()
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Its control groups.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Sends the program's process a signal.
    ///
    /// # Errors
    /// As pidfd_send_signal(2); one that has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match pidfd_send_signal(&self.program, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).context(|| format!("send signal {signal} to the sandbox's program")),
        }
    }

    /// Waits until the program's process has ended: how it did.
    ///
    /// # Errors
    /// Why it has not become its program.
    pub fn wait(&mut self) -> Result<Ending> {
        loop {
            match self.channel.receive()? {
                Some(Message::Failed(error)) => self.failed = Some(error),
                Some(Message::Ended(ending)) => return self.failed.take().map_or(Ok(ending), Err),
                // With the first process all have been killed.
                None => return self.failed.take().map_or(Ok(Ending::Killed(libc::SIGKILL)), Err),
                Some(_) => return Err(Error::system("the container's process says what is not its to say")),
            }
        }
    }

    /// Ends every process of it; when this returns none is left.
    ///
    /// # Errors
    /// As waitid(2).
    pub fn end(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let _ = pidfd_send_signal(&self.first.1, libc::SIGKILL);
        // The kernel lets the first process of a PID namespace go when all others are gone.
        wait(Which::Pid(self.first.0), true).context(|| "wait for the container's first process")?;
        self.ended = true;
        Ok(())
    }

    /// Ends and removes it.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(mut self) -> Result<()> {
        self.end()?;
        self.removed = true;
        destroy(&self.entry, &self.record, Some(&self.cgroup))
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        let gone = self.end().and_then(|()| destroy(&self.entry, &self.record, Some(&self.cgroup)));
        if let Err(error) = gone {
            log::warn!("{error}");
        }
    }
}

/// Lets the first process go on, which stays.
fn stay(channel: &Channel, first: &OwnedFd) -> Result<OwnedFd> {
    channel.send(&Message::Go)?;
    match channel.receive()? {
        Some(Message::Ready) => first.try_clone().context(|| "copy a process's descriptor"),
        Some(Message::Failed(error)) => Err(error),
        _ => Err(Error::system("the container's first process has ended early")),
    }
}

/// Waits for the program's process, which its first process makes without being told to. It may fail before it is heard of.
fn go(channel: &Channel) -> Result<(Option<OwnedFd>, Option<Error>)> {
    let mut failed = None;
    loop {
        match channel.receive()? {
            Some(Message::Child(program)) => return Ok((Some(program), failed)),
            Some(Message::Failed(error)) => failed = Some(error),
            Some(_) => return Err(Error::system("the container's process says what is not its to say")),
            None => return Ok((None, failed)),
        }
    }
}

/// Removes what killed processes have left in a store of attended containers: those whose maker does not hold them any more.
/// `living` says of an id whether its maker may live still: then it is not looked at further.
///
/// # Errors
/// If the store cannot be read. What cannot be removed is logged.
pub fn sweep(store: &Store, living: impl Fn(&str) -> bool) -> Result<()> {
    for id in store.ids()? {
        if living(&id) || !store.find(&id).is_ok_and(|entry| entry.is_free()) {
            continue;
        }
        match delete(store, &id, true) {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => log::warn!("remove what is left of a sandbox: {error}"),
        }
    }
    Ok(())
}
