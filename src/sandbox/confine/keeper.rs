//! The keeper: a process between procrt and the command, which becomes the parent of every process that the command leaves
//! behind, ends them all when it is told to or when procrt is gone, and removes what was made. The command cannot reach it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeValLike;
use nix::unistd::{Pid, getpid, setsid};

use super::child::{self, Luggage};
use super::domain::Domain;
use super::talk::{Order, Talk, Word};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::host::cgroups::ContainerCgroups;
use crate::sys::child::{Which, wait};
use crate::sys::process::{Cloned, clone, close_all_but, exit_now};

/// What it has to know.
pub(super) struct Keeping<'a> {
    pub(super) talk: Talk,
    /// Its supervisor, and the one process that it must not be able to signal.
    pub(super) supervisor: Pid,
    /// A domain out of which no signal goes, if the kernel has such.
    pub(super) signals: Option<Domain>,
    pub(super) cgroup: Option<&'a Cgroup>,
    pub(super) private: Option<PathBuf>,
}

/// Is the keeper, to the end of the process.
pub(super) fn run(keeping: Keeping, luggage: Luggage) -> ! {
    let Keeping { talk, supervisor, signals, cgroup, private } = keeping;
    let mut keeper = Keeper {
        talk,
        scoped: false,
        cgroup: cgroup.map(|cgroup| cgroup.cgroups().clone()),
        private,
        command: None,
        children: None,
    };
    let status = match keeper.begin(supervisor, signals, cgroup, luggage) {
        Ok(()) => keeper.keep(),
        Err(error) => {
            let _ = keeper.kill_all();
            let _ = keeper.remove();
            let _ = keeper.talk.say(&Word::Failed(error));
            1
        }
    };
    exit_now(status)
}

struct Keeper {
    talk: Talk,
    /// A signal to everybody goes to the sandbox's processes alone.
    scoped: bool,
    cgroup: Option<ContainerCgroups>,
    private: Option<PathBuf>,
    command: Option<Pid>,
    children: Option<SignalFd>,
}

impl Keeper {
    fn begin(
        &mut self,
        supervisor: Pid,
        signals: Option<Domain>,
        cgroup: Option<&Cgroup>,
        mut luggage: Luggage,
    ) -> Result<()> {
        prctl::set_name(c"procrt-keeper").context(|| "name the keeper")?;
        prctl::set_child_subreaper(true).context(|| "adopt what the command leaves behind")?;
        // A signal to procrt's group is not for it.
        setsid().context(|| "begin a session")?;
        let mut child = SigSet::empty();
        child.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        self.children = Some(SignalFd::with_flags(&child, flags).context(|| "watch for children")?);
        if let Some(domain) = signals {
            prctl::set_no_new_privs().context(|| "set no_new_privs")?;
            domain.enter()?;
            // It is what a signal to everybody rests upon.
            match kill(supervisor, None) {
                Err(Errno::EPERM) => self.scoped = true,
                other => return Err(Error::system(format!("landlock: signals are not held back ({other:?})"))),
            }
        }
        luggage.keeper = getpid();
        let birth = cgroup.map(Cgroup::birth_fd).transpose()?.flatten();
        let cloned = clone(0, birth, false).map_err(|errno| {
            let error = Error::from(errno).context("make the command's process");
            cgroup.map_or(error.clone(), |cgroup| cgroup.explain_birth(error))
        })?;
        let pidfd = match cloned {
            Cloned::Child => exit_now(child::run(luggage)),
            Cloned::Parent { pid, pidfd } => {
                self.command = Some(Pid::from_raw(pid));
                pidfd
            }
        };
        // Nothing here is dropped in this process: what is closed now stays closed.
        std::mem::forget(luggage);
        self.talk.say(&Word::Begun(pidfd))?;
        self.close_the_rest()
    }

    /// Lets go of what was procrt's: its end of the channel, the command's streams, whatever it was started with.
    fn close_the_rest(&self) -> Result<()> {
        let what = || "close what is not the keeper's";
        let mut kept = vec![self.talk.fd().as_raw_fd()];
        kept.extend(self.children.as_ref().map(AsRawFd::as_raw_fd));
        close_all_but(0, &mut kept).context(what)
    }

    fn keep(&mut self) -> i32 {
        loop {
            let Some(children) = &self.children else { return 1 };
            let mut fds =
                [PollFd::new(self.talk.fd(), PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::NONE).is_err_and(|errno| errno != Errno::EINTR) {
                return 1;
            }
            let ordered = fds[0].any() == Some(true);
            while let Ok(Some(_)) = children.read_signal() {}
            self.reap(false);
            if !ordered {
                continue;
            }
            let Ok(Some(order)) = self.talk.next_order() else {
                // Nobody is there any more who could want the command to go on.
                let ended = self.kill_all();
                let removed = self.remove();
                return i32::from(ended.is_err() || removed.is_err());
            };
            let done = match order {
                Order::Signal(signal) => self.signal(signal),
                Order::Terminate => self.signal_all(Signal::SIGTERM),
                Order::Kill => self.kill_all().and_then(|()| self.talk.say(&Word::AllEnded(processor_time()))),
                Order::Remove => {
                    let done = self.remove();
                    let word = done.map_or_else(Word::Failed, |()| Word::Removed);
                    return i32::from(self.talk.say(&word).is_err());
                }
            };
            if let Err(error) = done {
                let _ = self.talk.say(&Word::Failed(error));
            }
        }
    }

    /// Takes the endings of children, all that there are now, or all that there will be; tells of the command's.
    fn reap(&mut self, block: bool) {
        while let Ok(Some((pid, ending))) = wait(Which::Any, block) {
            if self.command == Some(Pid::from_raw(pid)) {
                self.command = None;
                let _ = self.talk.say(&Word::Ended(ending));
            }
        }
    }

    fn signal(&self, signal: i32) -> Result<()> {
        // Not reaped yet, so its number is nobody else's.
        let Some(command) = self.command else { return Ok(()) };
        let signal = Signal::try_from(signal).map_err(Error::from);
        signal.and_then(|signal| Ok(kill(command, signal)?)).context(|| "signal the command")
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        if !self.scoped {
            for pid in descendants()? {
                let _ = kill(pid, signal);
            }
            return Ok(());
        }
        match kill(Pid::from_raw(-1), signal) {
            // Nobody is left.
            Err(Errno::ESRCH | Errno::EPERM) => Ok(()),
            done => done.context(|| "signal the sandbox's processes"),
        }
    }

    /// Ends every process. With a scope, one signal goes to all of them in an instant in which none can be made.
    fn kill_all(&mut self) -> Result<()> {
        if self.scoped {
            self.signal_all(Signal::SIGKILL)?;
            self.reap(true);
            return Ok(());
        }
        if let Some(cgroup) = &self.cgroup {
            Cgroup::open(cgroup).kill(libc::SIGKILL)?;
        }
        // Stopped first, a process makes no others while the rest are looked for.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            let mut known = 0;
            loop {
                self.reap(false);
                let all = descendants()?;
                if all.is_empty() {
                    return Ok(());
                }
                for pid in &all {
                    let _ = kill(*pid, signal);
                }
                if signal == Signal::SIGSTOP && all.len() == known {
                    break;
                }
                known = all.len();
                if signal == Signal::SIGKILL {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        }
        Ok(())
    }

    /// Removes the control groups and the private directory: both are tried.
    fn remove(&mut self) -> Result<()> {
        let groups = self.cgroup.take().map_or(Ok(()), |cgroups| Cgroup::open(&cgroups).remove());
        let private = self.private.take().map_or(Ok(()), |private| super::scratch::remove(&private));
        groups.and(private)
    }
}

/// The processor time of all that has ended.
fn processor_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(microseconds).unwrap_or(0))
}

/// All processes that this one is above, as /proc has them at the moment.
fn descendants() -> Result<Vec<Pid>> {
    let what = || "look for the sandbox's processes in /proc";
    let mut parents: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").context(what)? {
        let entry = entry.context(what)?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // PID (NAME) STATE PPID: a name can have anything in it.
        let mut rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let state = rest.next();
        if let (Some(parent), false) = (rest.next().and_then(|text| text.parse().ok()), state == Some("X")) {
            parents.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![getpid().as_raw()];
    while let Some(parent) = next.pop() {
        let children = parents.remove(&parent).unwrap_or_default();
        found.extend(children.iter().copied().map(Pid::from_raw));
        next.extend(children);
    }
    Ok(found)
}

/// Both ends of a pipe, closed at execve.
pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context(|| "make a pipe")
}
