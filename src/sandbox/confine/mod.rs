//! The backend without namespaces: the process itself is confined, by landlock, a filter of system calls, limits and
//! `no_new_privs`. It takes no privilege and nothing installed.
//!
//! Three processes: procrt, the keeper (see [`keeper`]), the command. The command's processes are in a landlock domain that
//! files, TCP ports, abstract sockets, signals and tracing do not leave; the keeper is in one that signals do not leave and
//! that theirs are inside of, so that its signal to everybody reaches all of them, also those that have left their parents,
//! sessions and groups, and nobody else. Level `off` is without domains, and the keeper looks for its descendants.

mod child;
mod domain;
mod keeper;
mod plan;
mod scratch;
mod talk;

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::getpid;

use child::Luggage;
use domain::Domain;
use keeper::Keeping;
use talk::{Order, Talk, Word};

use super::backend::{Choice, SIGNALS};
use super::running::{Job, Started};
use crate::cgroup::{Cgroup, Usage};
use crate::error::{Context, Error, Result};
use crate::process::set_variable;
use crate::sys;
use crate::sys::child::{Ending, Which, wait};
use crate::sys::process::{Cloned, clone};
use crate::terminal::pty::Pty;
use crate::terminal::signals::Signals;

/// Starts a job at level `default` or `off`.
///
/// # Errors
/// What a process cannot be held to, by its field; the step that failed. Nothing is left then.
pub fn start(job: &Job, choice: &Choice, signals: &Signals) -> Result<Box<dyn Started>> {
    let mut plan = plan::plan(job, choice, &own_id())?;
    let made = Made::make(&plan)?;
    if let Some(private) = &made.private {
        let named = |name: &str| {
            let environment = &job.policy.environment;
            environment.set.contains_key(name) || environment.pass.iter().any(|other| other == name)
        };
        for name in ["HOME", "TMPDIR"].into_iter().filter(|name| !named(name)) {
            set_variable(&mut plan.process.env, &format!("{name}={}", private.display()));
        }
    }
    let abi = if plan.confined { sys::landlock::abi() } else { 0 };
    let domain = (plan.confined).then(|| Domain::of_files(&plan.reach, made.private.as_deref(), abi)).transpose()?;
    let scope = (abi >= SIGNALS).then(Domain::of_signals).transpose()?;
    let (pty, master) = if job.terminal { Some(terminal(plan.process.uid)?) } else { None }.unzip();
    let entrance = made.cgroup.as_ref().map(Cgroup::entrance).transpose()?;
    let (ours, theirs) = Talk::pair()?;
    let (report, reporter) = keeper::pipe()?;
    let supervisor = getpid();
    let (pid, _) = match clone(0, None, false).context(|| "make the keeper")? {
        Cloned::Child => {
            let luggage = Luggage {
                plan: &plan,
                private: made.private.as_deref(),
                domain,
                entrance,
                pty,
                signals,
                report: reporter.into(),
                keeper: supervisor,
            };
            let keeping = Keeping {
                talk: theirs,
                supervisor,
                signals: scope,
                cgroup: made.cgroup.as_ref(),
                private: made.private.clone(),
            };
            keeper::run(keeping, luggage)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((theirs, reporter, domain, scope, pty, entrance));
    // From here on the keeper removes what was made.
    let cgroup = made.keep();
    let mut process =
        Process { talk: Some(ours), keeper: pid, pidfd: None, cgroup, master, ending: None, cpu_time: None };
    process.begin(report)?;
    Ok(Box::new(process))
}

/// Enters a domain that lets nothing of files through, in this process and for good: for a process that only tries it.
///
/// # Errors
/// The kernel's.
pub(super) fn enter_empty_domain() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().context(|| "set no_new_privs")?;
    Domain::of_files(&plan::Reach::default(), None, sys::landlock::abi())?.enter()
}

/// An id that no living process but this one makes.
pub(super) fn own_id() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("sandbox-{}-{:x}-{count}", std::process::id(), now.as_nanos())
}

fn terminal(uid: u32) -> Result<(Pty, OwnedFd)> {
    let what = || "open a terminal for the sandbox";
    let ptmx = open("/dev/ptmx", OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty()).context(what)?;
    let pty = Pty::open(ptmx, None)?;
    if uid != nix::unistd::geteuid().as_raw() {
        pty.give_to(uid)?;
    }
    let master = pty.master().try_clone_to_owned().context(what)?;
    Ok((pty, master))
}

/// What was made on the host before there is a keeper; dropping it removes it.
struct Made {
    cgroup: Option<Cgroup>,
    private: Option<PathBuf>,
}

impl Made {
    fn make(plan: &plan::Plan) -> Result<Self> {
        let mut made = Self { cgroup: None, private: None };
        made.cgroup = plan.cgroup.as_ref().map(Cgroup::create).transpose()?;
        if plan.private {
            made.private = Some(scratch::make(plan.process.uid, plan.process.gid)?);
        }
        Ok(made)
    }

    fn keep(mut self) -> Option<Cgroup> {
        self.private = None;
        self.cgroup.take()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.unmake();
        }
        if let Some(private) = &self.private {
            let _ = scratch::remove(private);
        }
    }
}

/// A confined command.
struct Process {
    /// None when the keeper has been told to go.
    talk: Option<Talk>,
    keeper: i32,
    pidfd: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
    master: Option<OwnedFd>,
    ending: Option<Ending>,
    cpu_time: Option<Duration>,
}

impl Process {
    /// Waits until the command runs, or for why it does not.
    fn begin(&mut self, report: OwnedFd) -> Result<()> {
        match self.hear()? {
            Word::Begun(pidfd) => self.pidfd = Some(pidfd),
            Word::Failed(error) => return Err(error),
            other => return Err(Error::system(format!("the keeper said {other:?} before the command was there"))),
        }
        let mut text = Vec::new();
        std::fs::File::from(report).read_to_end(&mut text).context(|| "hear from the command's process")?;
        if text.is_empty() { Ok(()) } else { Err(talk::parse(&text)) }
    }

    fn talk(&self) -> Result<&Talk> {
        self.talk.as_ref().ok_or_else(|| Error::system("the keeper is gone"))
    }

    fn hear(&self) -> Result<Word> {
        self.talk()?.hear()
    }

    /// Hears until `wanted` has come; endings that come before it are kept.
    fn hear_until(&mut self, wanted: fn(&Word) -> bool) -> Result<()> {
        loop {
            let word = self.hear()?;
            let found = wanted(&word);
            match word {
                Word::Ended(ending) => self.ending = Some(ending),
                Word::AllEnded(time) => self.cpu_time = Some(time),
                Word::Failed(error) => return Err(error),
                Word::Begun(_) | Word::Removed => {}
            }
            if found {
                return Ok(());
            }
        }
    }
}

impl Started for Process {
    fn pidfd(&self) -> BorrowedFd<'_> {
        // There is one from `begin` on, without which nobody has this value.
        self.pidfd.as_ref().expect("the command was begun").as_fd()
    }

    fn signal(&mut self, signal: i32) -> Result<()> {
        self.talk()?.order(Order::Signal(signal))
    }

    fn terminate(&mut self) -> Result<()> {
        self.talk()?.order(Order::Terminate)
    }

    fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.master.take()
    }

    fn kill_all(&mut self) -> Result<()> {
        self.talk()?.order(Order::Kill)?;
        self.hear_until(|word| matches!(word, Word::AllEnded(_)))
    }

    fn wait(&mut self) -> Result<Ending> {
        while self.ending.is_none() {
            self.hear_until(|word| matches!(word, Word::Ended(_)))?;
        }
        self.ending.ok_or_else(|| Error::system("the command has not ended"))
    }

    fn usage(&mut self) -> Usage {
        let counted = self.cgroup.as_ref().map(Cgroup::usage).unwrap_or_default();
        Usage { cpu_time: counted.cpu_time.or(self.cpu_time), ..counted }
    }

    fn remove(mut self: Box<Self>) -> Result<()> {
        self.talk()?.order(Order::Remove)?;
        self.hear_until(|word| matches!(word, Word::Removed))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The keeper ends what is left and removes what was made when nobody is at the other end.
        self.talk = None;
        let _ = wait(Which::Pid(self.keeper), true);
    }
}
