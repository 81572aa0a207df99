//! A first process that stays procrt's. The program is its child, and so is no first process of a PID namespace, to which
//! the kernel delivers no signal that it has no handler for: it can be ended, and can end itself, as anywhere else.
//!
//! The program cannot reach this process: it may not be dumped, so nobody without privileges may trace it or look into it
//! (ptrace(2), PTRACE_SETDUMPABLE), and the kernel keeps signals of its own namespace from it (pid_namespaces(7)).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::unistd::setsid;

use super::{Channel, Message};
use crate::error::{Context, Result};
use crate::sys::child::{Which, leave_to_kernel, wait};
use crate::sys::process::{Cloned, clone, close_all_but, exit_now};

/// Clones the process that is to become the program, and returns in that alone. With a `terminal`, it is in this process's
/// group, which is the terminal's foreground; without, it has a session of its own.
///
/// # Errors
/// As clone3(2).
pub(super) fn part(channel: &Channel, terminal: bool) -> Result<()> {
    match clone(0, None, false).context(|| "make the program's process (clone3)")? {
        Cloned::Parent { pid, pidfd } => watch(pid, pidfd, channel),
        Cloned::Child if terminal => Ok(()),
        Cloned::Child => setsid().map(drop).context(|| "begin a session"),
    }
}

/// Stays, for others to join, until the maker has gone; then all of the namespace ends with it. What is left to this
/// process the kernel takes away.
pub(super) fn hold(channel: &Channel) -> ! {
    let mut kept = [channel.as_fd().as_raw_fd()];
    if close_all_but(0, &mut kept).is_ok() && leave_to_kernel().is_ok() {
        let _ = channel.receive();
    }
    exit_now(0)
}

/// Stays until the program's process has ended. What it leaves ends with this one.
fn watch(program: i32, pidfd: OwnedFd, channel: &Channel) -> ! {
    // Whoever reads what the program writes is not to wait for this process too.
    let mut kept = [channel.as_fd().as_raw_fd(), pidfd.as_raw_fd()];
    if close_all_but(0, &mut kept).is_err() || channel.send(&Message::Child(pidfd)).is_err() {
        exit_now(1);
    }
    loop {
        match wait(Which::Any, true) {
            Ok(Some((pid, ending))) if pid == program => {
                let _ = channel.send(&Message::Ended(ending));
                exit_now(0);
            }
            Ok(_) => {}
            Err(_) => exit_now(1),
        }
    }
}
