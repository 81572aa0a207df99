//! A command in a session: its processes have a control group of their own inside the session's, by which all that the
//! command has started can be ended, whatever became of it.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::record::{Record, Sessions};
use crate::cgroup::{self, Usage};
use crate::container::{self, ExecOptions, Joined};
use crate::error::{Context, Error, Kind, Result};
use crate::sandbox::outcome::Outcome;
use crate::sandbox::policy::{Policy, Size, Time};
use crate::sandbox::running::{Job, Started};
use crate::sandbox::{Caller, engine, environment, supervise};
use crate::sys::child::{Ending, Which, wait};
use crate::sys::process::{pidfd_open, pidfd_send_signal};
use crate::terminal::signals::Signals;

/// How long killed processes are given to be gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the names of the commands' control groups begin with; the maker's pid and a number follow.
const PREFIX: &str = "exec-";

/// What a command of a session has of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecPolicy {
    /// Its time; the session's `limits.timeout` if None.
    pub timeout: Option<Time>,
    /// Its output; the session's `limits.output` if None. What such a command leaves running ends with it.
    pub output: Option<Size>,
    /// Its working directory inside; the session's if None.
    pub cwd: Option<PathBuf>,
    /// More variables.
    pub env: Vec<(String, String)>,
    /// Names that may be there although they look like secrets'.
    pub allow_secret: Vec<String>,
}

/// Runs a command in the session `name` to its end, in this process, which must have one thread. What it leaves running
/// goes on, as part of the session, unless its time was over.
///
/// # Errors
/// [`Kind::NotFound`] without such a session, [`Kind::State`] if it has ended; why the command could not be run.
pub fn exec(name: &str, command: Vec<OsString>, own: &ExecPolicy) -> Result<Outcome> {
    let sessions = Sessions::of_user()?;
    let record = sessions.read(name)?;
    let has_ended = |why: &str| Error::new(Kind::State, format!("the session {name:?} has ended: {why}"));
    match &record.ended {
        Some(why) => return Err(has_ended(why)),
        None if !record.is_kept() => return Err(has_ended("its keeper was killed")),
        None => {}
    }
    let mut job = record.job();
    job.policy.limits.timeout = own.timeout.or(job.policy.limits.timeout);
    job.policy.limits.output = own.output.or(job.policy.limits.output);
    job.command = command;
    let caller = Caller::this_process()?;
    job.terminal = caller.terminal && job.policy.limits.output.is_none();
    let mut options = options(&record, &job, own)?;
    if job.terminal {
        // Which kind of terminal it has is the caller's to say, not that of whoever has started the session.
        let constants = environment::build(&Policy::default(), &caller)?;
        options.env.splice(0..0, constants.into_iter().filter(|variable| variable.starts_with("TERM=")));
    }
    let doomed = job.policy.limits.output.is_some();
    let outcome = supervise::supervise(&job, &record.backend, |_, _, signals| start(&options, doomed, signals), None);
    outcome.map_err(|error| match error.kind() {
        Kind::NotFound | Kind::State => has_ended("its first process is gone"),
        _ => error,
    })
}

fn options(record: &Record, job: &Job, own: &ExecPolicy) -> Result<ExecOptions> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    for (name, _) in &own.env {
        if let Some(pattern) = environment::secret(name).filter(|_| !own.allow_secret.contains(name)) {
            return Err(Error::config(format!(
                "--env {name}: looks like the name of a secret ({pattern}): it is let in with --allow-secret-env {name}"
            )));
        }
    }
    let text = |argument: &OsString| {
        let text = argument.to_str().map(str::to_owned);
        text.ok_or_else(|| Error::config(format!("the argument {argument:?} is not UTF-8")))
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(ExecOptions {
        id: record.container.clone(),
        args: job.command.iter().map(text).collect::<Result<_>>()?,
        tty: job.terminal,
        cwd: own.cwd.clone(),
        env: own.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        new_cgroup: Some(format!("{PREFIX}{}-{count}", std::process::id())),
        ..ExecOptions::default()
    })
}

fn start(options: &ExecOptions, doomed: bool, signals: &Signals) -> Result<Box<dyn Started>> {
    let joined = container::join(&engine::store()?, options, Some(signals))?;
    // Groups of commands that are over, and that left something running which is over too.
    cgroup::prune_inside(joined.whole.cgroups(), |name| {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<i32>().ok());
        maker.is_some_and(|pid| matches!(pidfd_open(pid), Err(Errno::ESRCH)))
    });
    Ok(Box::new(InSession { joined, ended: None, doomed, done: false }))
}

struct InSession {
    joined: Joined,
    ended: Option<Ending>,
    /// What it leaves running is to end with it.
    doomed: bool,
    done: bool,
}

impl InSession {
    fn end_all(&mut self) -> Result<()> {
        let cgroup = &self.joined.cgroup;
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(100);
        loop {
            cgroup.kill(libc::SIGKILL)?;
            if self.ended.is_none() {
                let _ = pidfd_send_signal(&self.joined.pidfd, libc::SIGKILL);
            }
            // One that this process has to take is among them until then.
            if cgroup.pids()?.into_iter().all(|pid| pid == self.joined.pid) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Error::system("processes of the command cannot be ended"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}

impl Started for InSession {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.joined.pidfd.as_fd()
    }

    fn signal(&mut self, signal: i32) -> Result<()> {
        match pidfd_send_signal(&self.joined.pidfd, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).context(|| format!("send signal {signal} to the command")),
        }
    }

    fn terminate(&mut self) -> Result<()> {
        // Its time is over: it ends with all that it has started.
        self.doomed = true;
        // Whoever has the number of one that is gone by now is not in the group.
        let cgroup = &self.joined.cgroup;
        let open = |pid| Some((pid, pidfd_open(pid).ok()?));
        let all: Vec<(i32, OwnedFd)> = cgroup.pids()?.into_iter().filter_map(open).collect();
        let now = cgroup.pids()?;
        for (_, pidfd) in all.iter().filter(|(pid, _)| now.contains(pid)) {
            let _ = pidfd_send_signal(pidfd, libc::SIGTERM);
        }
        Ok(())
    }

    fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.joined.master.take()
    }

    fn kill_all(&mut self) -> Result<()> {
        if self.ended.is_some() && !self.doomed {
            return Ok(());
        }
        self.doomed = true;
        self.end_all()
    }

    fn wait(&mut self) -> Result<Ending> {
        if let Some(ending) = self.ended {
            return Ok(ending);
        }
        let ended = wait(Which::Pid(self.joined.pid), true).context(|| "wait for the command")?;
        let (_, ending) = ended.ok_or_else(|| Error::system("the command has no end"))?;
        self.ended = Some(ending);
        Ok(ending)
    }

    fn usage(&mut self) -> Usage {
        let (own, whole) = (self.joined.cgroup.usage(), self.joined.whole.usage());
        let sum = |one: Option<u64>, other: Option<u64>| Some(one.unwrap_or_default() + other?);
        let since = |after: Option<u64>, before: Option<u64>| Some(after?.saturating_sub(before?));
        Usage {
            cpu_time: own
                .cpu_time
                .or_else(|| Some(whole.cpu_time?.saturating_sub(self.joined.before.cpu_time.unwrap_or_default()))),
            peak_memory: own.peak_memory,
            bytes_read: own.bytes_read.or_else(|| since(whole.bytes_read, self.joined.before.bytes_read)),
            bytes_written: own.bytes_written.or_else(|| since(whole.bytes_written, self.joined.before.bytes_written)),
            // Version 1 counts in the group of the process that was killed or refused, version 2 in that of the limit.
            oom_kills: sum(own.oom_kills, since(whole.oom_kills, self.joined.before.oom_kills)),
            pids_refused: sum(own.pids_refused, since(whole.pids_refused, self.joined.before.pids_refused)),
        }
    }

    fn remove(mut self: Box<Self>) -> Result<()> {
        self.done = true;
        // What the command has left running keeps its group.
        self.joined.cgroup.remove_if_free().map(drop)
    }
}

impl Drop for InSession {
    fn drop(&mut self) {
        if !self.done {
            let ended = self.end_all().and_then(|()| self.wait());
            let _ = ended.and_then(|_| self.joined.cgroup.remove());
        }
    }
}
