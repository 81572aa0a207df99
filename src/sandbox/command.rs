//! The sandbox for programs: a policy, a command, its outcome.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use serde::{Deserialize, Serialize};

use super::backend::Choice;
use super::caller::Caller;
use super::decide::{decide, run_while};
use super::outcome::Outcome;
use super::policy::{Limits, Policy};
use super::running::Job;
use crate::error::{Context, Error, Result};
use crate::sys::child::{Which, wait};
use crate::sys::process::{close_all_but, exit_now, fork, pidfd_open, pidfd_send_signal};

/// A policy that commands can be run under, each in a sandbox of its own.
///
/// ```no_run
/// use procrt::sandbox::{Policy, Sandbox};
///
/// let mut policy = Policy::default();
/// policy.limits.memory = Some("64M".parse()?);
/// policy.limits.timeout = Some("2s".parse()?);
/// let outcome = Sandbox::new(policy)?.command("python3", ["-c", "print(6 * 7)"]).run()?;
/// assert_eq!(outcome.exit_code, Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    policy: Policy,
}

impl Sandbox {
    /// A sandbox with this policy, for this process as the caller.
    ///
    /// # Errors
    /// Everything that is wrong with the policy, together, by field and value.
    pub fn new(policy: Policy) -> Result<Self> {
        policy.check(&Caller::this_process()?)?;
        Ok(Self { policy })
    }

    /// A command to be run in it.
    pub fn command<A: Into<OsString>>(
        &self,
        program: impl Into<OsString>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let arguments = arguments.into_iter().map(Into::into);
        Command {
            policy: self.policy.clone(),
            words: std::iter::once(program.into()).chain(arguments).collect(),
            stdio: [None, None, None],
        }
    }
}

/// A command that is to be run in a sandbox. It has this process's standard input, output and error unless it is given
/// others.
#[derive(Debug)]
pub struct Command {
    policy: Policy,
    words: Vec<OsString>,
    stdio: [Option<OwnedFd>; 3],
}

impl Command {
    /// What it reads: a file, the reading end of a pipe.
    #[must_use]
    pub fn stdin(mut self, from: impl Into<OwnedFd>) -> Self {
        self.stdio[0] = Some(from.into());
        self
    }

    /// Where its output goes.
    #[must_use]
    pub fn stdout(mut self, to: impl Into<OwnedFd>) -> Self {
        self.stdio[1] = Some(to.into());
        self
    }

    /// Where its messages go.
    #[must_use]
    pub fn stderr(mut self, to: impl Into<OwnedFd>) -> Self {
        self.stdio[2] = Some(to.into());
        self
    }

    /// Runs it to its end. May be called from a program with threads.
    ///
    /// # Errors
    /// As [`Command::spawn`]; why the command could not be run. Nothing of it is left then.
    pub fn run(self) -> Result<Outcome> {
        self.spawn()?.wait()
    }

    /// Starts it, and lets this process go on. May be called from a program with threads.
    ///
    /// # Errors
    /// What is wrong with the policy; `Kind::Unsupported` for what this host cannot enforce; as fork(2). Why a command
    /// cannot be run is [`Running::wait`]'s to say.
    pub fn spawn(self) -> Result<Running> {
        let what = || "make the sandbox's supervisor";
        let (mut job, choice) = decide(&self.policy, &Caller::this_process()?, self.words)?;
        job.terminal &= self.stdio.iter().all(Option::is_none);
        let (answer, answers) = pipe().context(what)?;
        let (wanted, held) = pipe().context(what)?;
        match fork().context(what)? {
            None => be_supervisor(&job, &choice, self.stdio, answers.into(), &wanted.into()),
            Some(pid) => Ok(Running {
                pid,
                supervisor: pidfd_open(pid).context(what)?,
                answer: File::from(OwnedFd::from(answer)),
                held: Some(held.into()),
                choice,
                limits: job.policy.limits,
            }),
        }
    }
}

/// The process that sees to a command of another's. It is a copy of a program of which only this thread is left: it may not
/// wait for anything that another thread may have held.
fn be_supervisor(job: &Job, choice: &Choice, stdio: [Option<OwnedFd>; 3], answers: OwnedFd, wanted: &OwnedFd) -> ! {
    log::set_max_level(log::LevelFilter::Off);
    let mut kept = vec![answers.as_raw_fd(), wanted.as_raw_fd()];
    kept.extend(stdio.iter().flatten().map(AsRawFd::as_raw_fd));
    let run = || {
        // What else is open belongs to the program, and its other children may wait for the end of it.
        close_all_but(3, &mut kept).context(|| "close what is not the command's")?;
        adopt(stdio).context(|| "give the command its input and output")?;
        run_while(job, choice, Some(wanted.as_fd()))
    };
    let answer = run().map(|outcome| Ended::from(&outcome));
    let text = serde_json::to_vec(&answer).unwrap_or_default();
    let written = File::from(answers).write_all(&text);
    exit_now(i32::from(written.is_err()))
}

/// Makes descriptors this process's standard ones.
fn adopt(streams: [Option<OwnedFd>; 3]) -> Result<()> {
    // One that has such a number itself, in a program that has closed its own, is not to be overwritten before its turn.
    let aside = |fd: Option<OwnedFd>| fd.map(|fd| fd.try_clone()).transpose();
    let [input, output, messages] = streams;
    let (input, output, messages) = (aside(input)?, aside(output)?, aside(messages)?);
    input.map_or(Ok(()), dup2_stdin)?;
    output.map_or(Ok(()), dup2_stdout)?;
    Ok(messages.map_or(Ok(()), dup2_stderr)?)
}

/// A command that runs in its sandbox. Dropping it ends it, with every process that it has started.
#[derive(Debug)]
pub struct Running {
    pid: i32,
    supervisor: OwnedFd,
    answer: File,
    /// As long as this is open, somebody cares.
    held: Option<OwnedFd>,
    choice: Choice,
    limits: Limits,
}

impl Running {
    /// Sends the command's first process a signal.
    ///
    /// # Errors
    /// As pidfd_send_signal(2); SIGKILL and SIGSTOP are not handed on. One that has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            return Err(Error::config(format!("signal {signal} is not handed on: end it with Running::kill")));
        }
        match pidfd_send_signal(&self.supervisor, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).context(|| format!("send signal {signal} to the sandbox")),
        }
    }

    /// Ends all of it.
    pub fn kill(&mut self) {
        self.held = None;
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Why the command could not be run; that its supervisor was killed.
    pub fn wait(mut self) -> Result<Outcome> {
        let mut text = Vec::new();
        self.answer.read_to_end(&mut text).context(|| "wait for the sandbox")?;
        let answer: Option<Result<Ended>> = serde_json::from_slice(&text).ok();
        let ended = answer.ok_or_else(|| Error::system("the sandbox's supervisor was killed, and all with it"))??;
        Ok(ended.outcome(self.choice.clone(), self.limits.clone()))
    }
}

impl AsFd for Running {
    /// Readable (`POLLIN`, `POLLHUP`) when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answer.as_fd()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.held = None;
        // A program that waits for whichever child, or ignores their ends, may have taken it.
        let _ = wait(Which::Pid(self.pid), true);
    }
}

/// What of an outcome only the supervisor knows.
#[derive(Serialize, Deserialize)]
struct Ended {
    exit_code: Option<i32>,
    signal: Option<i32>,
    timed_out: bool,
    memory_exceeded: bool,
    pids_exceeded: Option<bool>,
    output_truncated: bool,
    wall_time: Duration,
    cpu_time: Option<Duration>,
    peak_memory_bytes: Option<u64>,
    bytes_read: Option<u64>,
    bytes_written: Option<u64>,
    denied_system_calls: Option<Vec<String>>,
}

impl From<&Outcome> for Ended {
    fn from(outcome: &Outcome) -> Self {
        Self {
            exit_code: outcome.exit_code,
            signal: outcome.signal,
            timed_out: outcome.timed_out,
            memory_exceeded: outcome.memory_exceeded,
            pids_exceeded: outcome.pids_exceeded,
            output_truncated: outcome.output_truncated,
            wall_time: outcome.wall_time,
            cpu_time: outcome.cpu_time,
            peak_memory_bytes: outcome.peak_memory_bytes,
            bytes_read: outcome.bytes_read,
            bytes_written: outcome.bytes_written,
            denied_system_calls: outcome.denied_system_calls.clone(),
        }
    }
}

impl Ended {
    fn outcome(self, backend: Choice, limits: Limits) -> Outcome {
        Outcome {
            exit_code: self.exit_code,
            signal: self.signal,
            timed_out: self.timed_out,
            memory_exceeded: self.memory_exceeded,
            pids_exceeded: self.pids_exceeded,
            output_truncated: self.output_truncated,
            wall_time: self.wall_time,
            cpu_time: self.cpu_time,
            peak_memory_bytes: self.peak_memory_bytes,
            bytes_read: self.bytes_read,
            bytes_written: self.bytes_written,
            denied_system_calls: self.denied_system_calls,
            backend,
            limits,
        }
    }
}
