//! A first process that stays procrt's. The program is its child, and so is no first process of a PID namespace, to which
//! the kernel delivers no signal that it has no handler for: it can be ended, and can end itself, as anywhere else.
//!
//! The program cannot reach this process: it may not be dumped, so nobody without privileges may trace it or look into it
//! (ptrace(2), PTRACE_SETDUMPABLE), and the kernel keeps signals of its own namespace from it (pid_namespaces(7)).

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::{Channel, Message};
use crate::error::{Context, Result};
use crate::sys::child::{Which, leave_to_kernel, wait};
use crate::sys::process::{Cloned, StringTable, clone, close_all_but, exec, exit_now};

/// What procrt is called with to be [`held`].
pub const HELD: &CStr = c"stay-as-first-process";

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

/// Executes procrt's own file again, to be [`held`]: with the channel for all of its standard descriptors, and nothing of its
/// maker's memory, arguments and environment. From then on it belongs to the container's user namespace: whoever has made
/// that may join it, while nobody inside may look into it.
///
/// # Errors
/// As execve(2).
pub(super) fn hold(channel: &Channel, proc: OwnedFd) -> Result<Infallible> {
    let what = || "stay as the container's first process";
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let own = openat(&proc, "self/exe", flags, Mode::empty()).context(what)?;
    drop(proc);
    dup2_stdin(channel).and_then(|()| dup2_stdout(channel)).and_then(|()| dup2_stderr(channel)).context(what)?;
    close_all_but(3, &mut [own.as_raw_fd()]).context(what)?;
    let args = StringTable::new([c"procrt", HELD].map(CStr::to_owned).to_vec());
    Err(exec(own, &args, &StringTable::new(Vec::new()))).context(what)
}

/// In the program that [`hold`] executes, before anything else: stays, for others to join, until the maker has gone; then all
/// of the namespace ends with it. What is left to this process the kernel takes away.
pub fn held() -> ! {
    let stay = || {
        // execve has made it open to whoever has the same ids. Nobody else is there yet.
        prctl::set_dumpable(false)?;
        leave_to_kernel()?;
        let channel = Channel::of_connected(std::io::stdin().as_fd().try_clone_to_owned()?);
        channel.send(&Message::Ready)?;
        channel.receive().map(drop)
    };
    exit_now(i32::from(stay().is_err()))
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
