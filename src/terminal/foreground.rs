//! The host's side of a container in the foreground: one loop that forwards signals, relays a terminal's bytes, reaps, and
//! knows when the container has ended.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::relay::Relay;
use super::signals::{Arrived, Signals};
use crate::error::{Context, Error, Result};
use crate::sys::child::{Ending, Which, wait};
use crate::sys::process::pidfd_send_signal;

/// Stays with the container's process `pid`, a child of the caller that `pidfd` refers to, until it has ended, and answers its
/// exit status, or 128 + N if signal N killed it.
///
/// Signals that `signals` holds back go to the process; the kernel drops those that the first process of a PID namespace
/// has no handler for. With `master`, the master end of the process's terminal, our stdin and stdout are relayed, our
/// terminal, if stdin is one, is in raw mode meanwhile, and the container's follows its size; all output is written before
/// this returns, unless nobody reads it. Without, the process has our stdio itself. A caller that is a subreaper
/// (`PR_SET_CHILD_SUBREAPER`) passes `subreaper` and has every other child reaped as well. Our terminal has its modes back
/// whatever happens, but for a SIGKILL.
///
/// # Errors
/// The system's; the process goes on then and is the caller's to end.
pub fn supervise(
    signals: &Signals,
    pid: i32,
    pidfd: BorrowedFd,
    master: Option<OwnedFd>,
    subreaper: bool,
) -> Result<i32> {
    let mut relay = master.map(Relay::begin).transpose()?;
    let mut ending = None;
    loop {
        let ready = wait_for_any(signals, ending.is_none().then_some(pidfd), relay.as_ref())?;
        let mut children = false;
        if ready.contains(&signals.fd().as_raw_fd()) {
            while let Some(arrived) = signals.next().context(|| "read signals")? {
                match arrived {
                    Arrived::Child => children = true,
                    Arrived::Resized => relay.iter().for_each(Relay::resize),
                    Arrived::Resumed => {
                        relay.iter().for_each(Relay::resume);
                        forward(pidfd, nix::libc::SIGCONT)?;
                    }
                    // With the process gone, only a stdout that takes nothing can keep us.
                    Arrived::Forward(_) if ending.is_some() => relay = None,
                    Arrived::Forward(signal) => forward(pidfd, signal)?,
                }
            }
        }
        let reaped = if children && subreaper { reap_all(pid)? } else { None };
        if ending.is_none() && (reaped.is_some() || ready.contains(&pidfd.as_raw_fd())) {
            ending = Some(reaped.map_or_else(|| reap(pidfd), Ok)?);
            relay.iter_mut().for_each(Relay::ended);
        }
        if let Some(relay) = &mut relay {
            relay.pump(|fd| ready.contains(&fd.as_raw_fd()))?;
        }
        if let Some(ending) = ending.filter(|_| relay.as_ref().is_none_or(Relay::is_done)) {
            return Ok(match ending {
                Ending::Exited(status) => status,
                Ending::Killed(signal) => 128 + signal,
            });
        }
    }
}

/// How the process ended. It has: this waits only for a debugger that has not let go of it yet.
fn reap(pidfd: BorrowedFd) -> Result<Ending> {
    match wait(Which::Pidfd(pidfd), true).context(|| "wait for the container's process")? {
        Some((_, ending)) => Ok(ending),
        None => Err(Error::system("wait for the container's process: it has no ending")),
    }
}

/// Reaps every child that has ended, and answers how `pid` did if it is one of them.
fn reap_all(pid: i32) -> Result<Option<Ending>> {
    let mut ours = None;
    loop {
        match wait(Which::Any, false) {
            Ok(Some((reaped, ending))) if reaped == pid => ours = Some(ending),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::ECHILD) => return Ok(ours),
            Err(errno) => return Err(errno).context(|| "reap the container's processes"),
        }
    }
}

/// Waits until something can be done, and answers the descriptors that it can be done with.
fn wait_for_any(signals: &Signals, pidfd: Option<BorrowedFd>, relay: Option<&Relay>) -> Result<Vec<i32>> {
    let mut fds = Vec::with_capacity(5);
    fds.push(PollFd::new(signals.fd(), PollFlags::POLLIN));
    fds.extend(pidfd.map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN)));
    if let Some(relay) = relay {
        relay.interests(&mut fds);
    }
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context(|| "wait for the container"),
            Ok(_) => break,
        }
    }
    // Whatever the event: reading or writing then says what is wrong with it.
    Ok(fds.iter().filter(|fd| fd.any() != Some(false)).map(|fd| fd.as_fd().as_raw_fd()).collect())
}

fn forward(pidfd: BorrowedFd, signal: i32) -> Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        // It has just ended.
        Err(Errno::ESRCH) => Ok(()),
        other => other.context(|| format!("forward signal {signal} to the container's process")),
    }
}

#[cfg(test)]
mod tests;
