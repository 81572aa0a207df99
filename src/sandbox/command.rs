//! The sandbox for programs: a policy, a command, its outcome.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use serde::{Deserialize, Serialize};

use super::backend::{Backend, Choice, choose};
use super::caller::Caller;
use super::outcome::Outcome;
use super::policy::{Limits, Policy};
use super::running::Job;
use super::supervise::{Start, supervise};
use super::{engine, environment};
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

    /// Decides how it will be run; makes nothing.
    ///
    /// # Errors
    /// What is wrong with the policy; `Kind::Unsupported` for what this host cannot enforce.
    pub fn prepare(self) -> Result<Prepared> {
        let caller = Caller::this_process()?;
        let choice = choose(&self.policy, &caller)?;
        let policy = self.policy.effective(&caller, &choice)?;
        let environment = environment::build(&policy, &caller)?;
        // A terminal of its own keeps what it does with it from the caller's. Limited output goes through pipes.
        let own_stdio = self.stdio.iter().all(Option::is_none);
        let terminal = own_stdio && caller.terminal && policy.limits.output.is_none() && is_terminal();
        let job = Job { policy, command: self.words, environment, caller_cwd: caller.cwd, terminal };
        Ok(Prepared { job, choice, stdio: self.stdio })
    }

    /// Runs it to its end. May be called from a program with threads.
    ///
    /// # Errors
    /// As [`Command::prepare`]; why the command could not be run. Nothing of it is left then.
    pub fn run(self) -> Result<Outcome> {
        self.spawn()?.wait()
    }

    /// Starts it, and lets this process go on. May be called from a program with threads.
    ///
    /// # Errors
    /// As [`Command::prepare`], and as fork(2). Why a command cannot be run is [`Running::wait`]'s to say.
    pub fn spawn(self) -> Result<Running> {
        self.prepare()?.spawn()
    }
}

fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stdout().is_terminal()
}

/// A command of which everything is decided.
#[derive(Debug)]
pub struct Prepared {
    /// What is to be run, under which effective policy.
    pub job: Job,
    /// What carries that out, and why.
    pub choice: Choice,
    stdio: [Option<OwnedFd>; 3],
}

impl Prepared {
    /// Runs it to its end in this process, which must have one thread and nothing else to do: its signals are handed on,
    /// and the command has its standard descriptors. If this process is killed, so is all that the command has started.
    ///
    /// # Errors
    /// Why the command could not be run.
    pub fn run_here(self) -> Result<Outcome> {
        self.run_while(None)
    }

    fn run_while(self, wanted: Option<BorrowedFd>) -> Result<Outcome> {
        adopt(self.stdio).context(|| "give the command its input and output")?;
        supervise(&self.job, &self.choice, start_of(&self.choice), wanted)
    }

    /// Starts it with a process of its own that sees to it.
    ///
    /// # Errors
    /// As fork(2).
    pub fn spawn(self) -> Result<Running> {
        let what = || "make the sandbox's supervisor";
        let (answer, answers) = pipe().context(what)?;
        let (lifeline, held) = pipe().context(what)?;
        match fork().context(what)? {
            None => self.be_supervisor(answers.into(), &lifeline.into()),
            Some(pid) => {
                let supervisor = pidfd_open(pid).context(what)?;
                let running = Running {
                    pid,
                    supervisor,
                    answer: File::from(OwnedFd::from(answer)),
                    held: Some(held.into()),
                    choice: self.choice,
                    limits: self.job.policy.limits,
                };
                Ok(running)
            }
        }
    }

    /// The process that sees to a command of another's. It is a copy of a program of which only this thread is left: it may
    /// not wait for anything that another thread may have held.
    fn be_supervisor(self, answers: OwnedFd, lifeline: &OwnedFd) -> ! {
        log::set_max_level(log::LevelFilter::Off);
        let Self { job, choice, stdio } = self;
        let mut kept = vec![answers.as_raw_fd(), lifeline.as_raw_fd()];
        kept.extend(stdio.iter().flatten().map(AsRawFd::as_raw_fd));
        // What belongs to the program, and its other children wait for the end of.
        let run = || {
            close_all_but(3, &mut kept).context(|| "close what is not the command's")?;
            let prepared = Prepared { job, choice, stdio };
            prepared.run_while(Some(lifeline.as_fd()))
        };
        let answer = run().map(|outcome| Ended::from(&outcome));
        let text = serde_json::to_vec(&answer).unwrap_or_default();
        let written = File::from(answers).write_all(&text);
        exit_now(i32::from(written.is_err()))
    }
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

/// How the chosen backend begins.
fn start_of(choice: &Choice) -> Start {
    match choice.backend {
        Backend::Engine => engine::start,
        Backend::Process | Backend::Runtime { .. } => |_, _, _| Err(Error::unsupported("not yet")),
    }
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
