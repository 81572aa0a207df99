//! From a job to its outcome: one loop for every backend, which watches the time, hands on signals and output, and sees to
//! it that nothing is left.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::backend::Choice;
use super::outcome::Outcome;
use super::output::Output;
use super::running::{Job, Started};
use crate::error::{Context, Result};
use crate::sys::child::Ending;
use crate::terminal::relay::Relay;
use crate::terminal::signals::{Arrived, Signals};

/// How a backend begins.
pub type Start = fn(&Job, &Choice, &Signals) -> Result<Box<dyn Started>>;

/// Where a command is with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// It has time until then, if there is a limit.
    Running(Option<Instant>),
    /// It was asked to end, and has until then.
    Asked(Instant),
    /// It was killed.
    Killed,
}

/// Runs a job to its end, in this process, which must have one thread: its standard descriptors are the command's, its
/// signals are handed on to it, and if it is killed all of the job ends too. Also if the other end of `wanted`, a pipe's, is
/// closed.
///
/// # Errors
/// Why the command could not be run; nothing of it is left then.
pub fn supervise(
    job: &Job,
    choice: &Choice,
    start: impl FnOnce(&Job, &Choice, &Signals) -> Result<Box<dyn Started>>,
    wanted: Option<BorrowedFd>,
) -> Result<Outcome> {
    let signals = Signals::block()?;
    let limits = &job.policy.limits;
    let (mut output, replaced) = limits.output.map(|limit| Output::begin(limit.0)).transpose()?.unzip();
    let began = Instant::now();
    let mut started = start(job, choice, &signals)?;
    drop(replaced);
    let mut relay = started.take_terminal().map(Relay::begin).transpose()?;
    let mut clock = Clock::Running(limits.timeout.map(|time| began + time.0));
    let grace = limits.grace.map_or(Duration::ZERO, |grace| grace.0);
    let (mut timed_out, mut wanted) = (false, wanted);
    let mut ended: Option<(Ending, Duration)> = None;
    loop {
        let deadline = match clock {
            _ if ended.is_some() => None,
            Clock::Running(deadline) => deadline,
            Clock::Asked(deadline) => Some(deadline),
            Clock::Killed => None,
        };
        let pidfd = ended.is_none().then(|| started.pidfd());
        let watched = [Some(signals.fd()), pidfd, wanted];
        let ready = wait_for_any(watched, relay.as_ref(), output.as_ref(), deadline)?;
        let is_ready = |fd: BorrowedFd| ready.contains(&fd.as_raw_fd());
        if is_ready(signals.fd()) {
            while let Some(arrived) = signals.next().context(|| "read signals")? {
                match arrived {
                    Arrived::Child => {}
                    Arrived::Resized => relay.iter().for_each(Relay::resize),
                    Arrived::Resumed => {
                        relay.iter().for_each(Relay::resume);
                        started.signal(libc::SIGCONT)?;
                    }
                    // With the command gone, only a reader that takes nothing can keep us.
                    Arrived::Forward(_) if ended.is_some() => {
                        relay = None;
                        output.iter_mut().for_each(Output::abandon);
                    }
                    Arrived::Forward(signal) => started.signal(signal)?,
                }
            }
        }
        if ended.is_none() && ready.contains(&started.pidfd().as_raw_fd()) {
            ended = Some((started.wait()?, began.elapsed()));
            // What it has left running ends with it: nothing may write any more.
            started.kill_all()?;
            relay.iter_mut().for_each(Relay::ended);
        }
        if ended.is_none() && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            timed_out = true;
            clock = if matches!(clock, Clock::Running(_)) && !grace.is_zero() {
                started.terminate()?;
                Clock::Asked(Instant::now() + grace)
            } else {
                started.kill_all()?;
                Clock::Killed
            };
        }
        if wanted.is_some_and(is_ready) {
            wanted = None;
            started.kill_all()?;
            relay = None;
            output.iter_mut().for_each(Output::abandon);
        }
        if let Some(relay) = &mut relay {
            relay.pump(is_ready)?;
        }
        if let Some(output) = &mut output {
            output.pump(is_ready);
        }
        let done = relay.as_ref().is_none_or(Relay::is_done) && output.as_ref().is_none_or(Output::is_done);
        if let Some((ending, wall_time)) = ended.filter(|_| done) {
            let usage = started.usage();
            started.remove()?;
            let (exit_code, signal) = match ending {
                Ending::Exited(status) => (Some(status), None),
                Ending::Killed(signal) => (None, Some(signal)),
            };
            return Ok(Outcome {
                exit_code,
                signal,
                timed_out,
                memory_exceeded: usage.oom_kills.is_some_and(|kills| kills > 0),
                pids_exceeded: usage.pids_refused.map(|refused| refused > 0),
                output_truncated: output.is_some_and(|output| output.truncated()),
                wall_time,
                cpu_time: usage.cpu_time,
                peak_memory_bytes: usage.peak_memory,
                bytes_read: usage.bytes_read,
                bytes_written: usage.bytes_written,
                denied_system_calls: None,
                backend: choice.clone(),
                limits: limits.clone(),
            });
        }
    }
}

/// Waits until something can be done, or for the deadline, and answers the descriptors that it can be done with.
fn wait_for_any(
    watched: [Option<BorrowedFd>; 3],
    relay: Option<&Relay>,
    output: Option<&Output>,
    deadline: Option<Instant>,
) -> Result<Vec<i32>> {
    let mut fds = Vec::with_capacity(7);
    fds.extend(watched.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    if let Some(relay) = relay {
        relay.interests(&mut fds);
    }
    if let Some(output) = output {
        output.interests(&mut fds);
    }
    loop {
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Rounded up, not to turn round and round in the last millisecond; what is too long to be said is asked again.
        let rest = rest.map_or(PollTimeout::NONE, |rest| {
            let milliseconds = rest.as_nanos().div_ceil(1_000_000);
            PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, rest) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context(|| "wait for the command"),
            Ok(_) => break,
        }
    }
    // Whatever the event: reading or writing then says what is wrong with it.
    Ok(fds.iter().filter(|fd| fd.any() != Some(false)).map(|fd| fd.as_fd().as_raw_fd()).collect())
}
