//! Running hooks: the state on their stdin, what they say kept for the error, and an end put to those that take too long.

use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};

use super::Hook;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::child::{ChildrenKept, Ending, Program, Which, spawn, wait};
use crate::sys::process::pidfd_open;

/// How much of what a failed hook wrote is told, from its end, in bytes.
const TOLD: usize = 2048;

/// Runs `hooks`, all of `kind` (its name in config.json), one after the other, up to the first that fails. Each gets
/// `state` on its stdin, `cwd` or the caller's as its working directory, exactly the environment it was planned with, no
/// signal blocked or ignored, a process group of its own, and no descriptor above 2. `container` is a pidfd: a hook is of no
/// use any more when that process has ended.
///
/// # Errors
/// `Kind::Hook`, naming the hook, how it ended, and the last that it wrote to its stdout and stderr: it cannot be
/// executed, does not exit with 0, or was killed, and its process group with it, when its time was up or the container's
/// process had ended.
pub fn run(kind: &str, hooks: &[Hook], state: &[u8], cwd: Option<&Path>, container: Option<BorrowedFd>) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(index, hook)| run_one(kind, index, hook, state, cwd, container))
}

/// Runs `hooks` as [`run`] does, but all of them whatever becomes of each, and answers every failure: for the kinds of
/// which the lifecycle goes on when one fails.
pub fn run_each(kind: &str, hooks: &[Hook], state: &[u8], cwd: Option<&Path>) -> Vec<Error> {
    let hooks = hooks.iter().enumerate();
    hooks.filter_map(|(index, hook)| run_one(kind, index, hook, state, cwd, None).err()).collect()
}

fn run_one(
    kind: &str,
    index: usize,
    hook: &Hook,
    state: &[u8],
    cwd: Option<&Path>,
    container: Option<BorrowedFd>,
) -> Result<()> {
    execute(hook, state, cwd, container).map_err(|error| {
        error.of_kind(Kind::Hook).context(format!("hook {kind}[{index}] {:?}", hook.path.to_string_lossy()))
    })
}

/// Why a hook is waited for no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Ended,
    OutOfTime,
    WithoutContainer,
}

fn execute(hook: &Hook, state: &[u8], cwd: Option<&Path>, container: Option<BorrowedFd>) -> Result<()> {
    let _children = ChildrenKept::new().context(|| "keep its exit status")?;
    let mut pipes = Pipes::new(state).context(|| "make its pipes")?;
    let pid = start(hook, cwd, &pipes)?;
    pipes.output_in = None;
    let timeout = hook.timeout.map(Duration::from_secs);
    let over = pidfd_open(pid)
        .context(|| "open its pidfd")
        .and_then(|pidfd| pipes.serve_until_end(pidfd.as_fd(), container, timeout));
    if !matches!(over, Ok(Over::Ended)) {
        // Not reaped yet, it still has its pid, and its group its number.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let ending = wait(Which::Pid(pid), true).context(|| "wait for it")?;
    let over = over?;
    let said = pipes.said();
    match (over, ending) {
        (Over::OutOfTime, _) => {
            let seconds = hook.timeout.unwrap_or_default();
            Err(Error::new(Kind::Hook, format!("killed, not having ended within {seconds} s{said}")))
        }
        (Over::WithoutContainer, _) => {
            Err(Error::new(Kind::Hook, format!("killed, the container's process having ended{said}")))
        }
        (Over::Ended, Some((_, Ending::Exited(0)))) => Ok(()),
        (Over::Ended, Some((_, Ending::Exited(status)))) => {
            Err(Error::new(Kind::Hook, format!("exit status {status}{said}")))
        }
        (Over::Ended, Some((_, Ending::Killed(signal)))) => {
            let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |signal| signal.to_string());
            Err(Error::new(Kind::Hook, format!("killed by signal {name}{said}")))
        }
        (Over::Ended, None) => Err(Error::system("wait for it: it has no ending")),
    }
}

fn start(hook: &Hook, cwd: Option<&Path>, pipes: &Pipes) -> Result<i32> {
    let text = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| Error::config(format!("{:?} has a NUL in it", String::from_utf8_lossy(bytes))))
    };
    let texts = |strings: &[String]| strings.iter().map(|string| text(string.as_bytes())).collect::<Result<Vec<_>>>();
    let path = text(hook.path.as_os_str().as_bytes())?;
    let mut args = texts(&hook.args)?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let cwd = cwd.map(|cwd| text(cwd.as_os_str().as_bytes())).transpose()?;
    let output = pipes.output_in.as_ref().unwrap_or(&pipes.input_out).as_fd();
    let stdio = [pipes.input_out.as_fd(), output, output];
    Ok(spawn(&Program { path: &path, args: &args, env: &texts(&hook.env)?, cwd: cwd.as_deref(), stdio })?)
}

/// The pipe to a hook's stdin and the one from its stdout and stderr.
struct Pipes<'a> {
    /// Where the state is written; none once all of it is in the pipe.
    input_in: Option<File>,
    /// What is still to be written.
    state: &'a [u8],
    /// The end that the hook reads. Ours stays open: a hook that reads nothing and ends, or closes its stdin, then costs
    /// us neither an error nor a SIGPIPE.
    input_out: OwnedFd,
    /// The end that the hook writes, until it is started.
    output_in: Option<OwnedFd>,
    /// Where what it says is read; none when nobody can say any more.
    output_out: Option<File>,
    /// The last that it said.
    tail: Vec<u8>,
}

impl<'a> Pipes<'a> {
    fn new(state: &'a [u8]) -> std::result::Result<Self, Errno> {
        let (input_out, input_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (output_out, output_in) = pipe2(OFlag::O_CLOEXEC)?;
        // Each end of a pipe is an open file of its own: the hook's ends stay blocking.
        fcntl(&input_in, FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_NONBLOCK))?;
        fcntl(&output_out, FcntlArg::F_SETFL(OFlag::O_RDONLY | OFlag::O_NONBLOCK))?;
        let mut pipes = Self {
            input_in: Some(input_in.into()),
            state,
            input_out,
            output_in: Some(output_in),
            output_out: Some(output_out.into()),
            tail: Vec::new(),
        };
        // A state is seldom larger than a pipe: then all of it waits for the hook, and so does its end.
        pipes.write_state();
        Ok(pipes)
    }

    /// Feeds and hears the hook until it has ended, its time is up, or the process behind `container` has ended.
    fn serve_until_end(
        &mut self,
        pidfd: BorrowedFd,
        container: Option<BorrowedFd>,
        timeout: Option<Duration>,
    ) -> Result<Over> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Ok(Over::OutOfTime),
                // Rounded up, so that it is not asked again and again within the last millisecond.
                Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
                None => PollTimeout::NONE,
            };
            let mut fds = Vec::with_capacity(4);
            fds.push(PollFd::new(pidfd, PollFlags::POLLIN));
            fds.extend(container.map(|container| PollFd::new(container, PollFlags::POLLIN)));
            fds.extend(self.output_out.iter().map(|output| PollFd::new(output.as_fd(), PollFlags::POLLIN)));
            fds.extend(self.input_in.iter().map(|input| PollFd::new(input.as_fd(), PollFlags::POLLOUT)));
            match poll(&mut fds, left) {
                Err(Errno::EINTR) => continue,
                other => other.context(|| "wait for it")?,
            };
            let ended = fds[0].any() != Some(false);
            let alone = container.is_some() && fds[1].any() != Some(false);
            self.read_output();
            if ended || alone {
                return Ok(if ended { Over::Ended } else { Over::WithoutContainer });
            }
            self.write_state();
        }
    }

    fn write_state(&mut self) {
        while let (Some(input), false) = (&mut self.input_in, self.state.is_empty()) {
            match input.write(self.state) {
                Ok(count) => self.state = &self.state[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Not while we hold the other end; a hook without its state will say so.
                Err(_) => break,
            }
        }
        self.input_in = None;
    }

    /// Reads what there is, also when the hook has left its stdout to a process that goes on.
    fn read_output(&mut self) {
        let mut chunk = [0; 4096];
        // Not more than a pipe holds: who never stops talking is not to keep us from the clock.
        for _ in 0..16 {
            let Some(output) = &mut self.output_out else { return };
            match output.read(&mut chunk) {
                Ok(count) if count > 0 => {
                    self.tail.extend_from_slice(&chunk[..count]);
                    let surplus = self.tail.len().saturating_sub(TOLD);
                    self.tail.drain(..surplus);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => self.output_out = None,
            }
        }
    }

    /// What the hook said last, on one line, to be put after its ending.
    fn said(&mut self) -> String {
        self.read_output();
        let text = String::from_utf8_lossy(&self.tail);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.chars().filter(|character| !character.is_control()).collect::<String>().trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) }
    }
}

#[cfg(test)]
mod tests;
