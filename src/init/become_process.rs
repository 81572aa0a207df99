//! The last steps of a container's first process and of one that joins it: a process in the container's namespaces and
//! root becomes one of its users and then the program.

use std::convert::Infallible;
use std::os::fd::RawFd;

use nix::sys::prctl;

use super::{Channel, hand_over};
use crate::error::{Context, Error, Result};
use crate::process::{self, Command, ProcessPlan};
use crate::seccomp::{self, Finished};
use crate::sys;
use crate::terminal::signals::Signals;

/// CAP_SYS_ADMIN: what installing a filter without `no_new_privs` takes.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Enters the working directory, becomes the user and finds the program: after this the process is the container's, but
/// for its program and its filter. A plan without a program has none. Of its descriptors those of `kept` stay open until
/// execve: through any other one, `/proc/self/fd/N/..` as the name of a program or of its interpreter could lead out of the
/// container, since the kernel looks programs up before it closes anything.
///
/// # Errors
/// Whichever step failed.
pub(super) fn prepare(
    plan: &ProcessPlan,
    filtered: bool,
    preserve_fds: u32,
    kept: &mut [RawFd],
) -> Result<Option<Command>> {
    sys::process::close_all_but(3 + preserve_fds, kept).context(|| "close what the container must not have")?;
    let entered = if plan.is_missing() { Ok(()) } else { process::enter_cwd(plan) };
    process::become_user(plan, held_capabilities(plan, filtered))?;
    if entered.is_err() {
        // A directory that is closed to root, such as a user's on a network file system, is open to its user.
        process::enter_cwd(plan)?;
    }
    (!plan.is_missing()).then(|| Command::find(plan)).transpose()
}

/// Becomes the program. `signals` are those that the caller holds back; at the other end of `channel` the host's side waits
/// for the listener of the filter, if it has one.
///
/// # Errors
/// Whichever step failed.
pub(super) fn begin(
    plan: &ProcessPlan,
    filter: Option<Finished>,
    command: Option<&Command>,
    signals: Option<&Signals>,
    channel: &Channel,
) -> Result<Infallible> {
    if plan.no_new_privileges {
        prctl::set_no_new_privs().context(|| "process.noNewPrivileges: set it")?;
    }
    if let Some(signals) = signals {
        signals.restore_in_child()?;
    }
    sys::process::restore_sigpipe().context(|| "restore the handling of SIGPIPE")?;
    // The filter comes last: it need not allow what procrt does, but for what it takes to give CAP_SYS_ADMIN back.
    if let Some(filter) = filter {
        match filter.listener {
            None => seccomp::install(filter)?,
            Some(_) => hand_over::install(filter, channel)?,
        }
    }
    if held_capabilities(plan, filter.is_some()) != 0 {
        process::drop_to_final_capabilities(plan)?;
    }
    Err(command.map_or_else(|| Error::config("process: is missing"), Command::exec))
}

/// Without `no_new_privs`, installing a filter takes CAP_SYS_ADMIN, which the container need not have.
fn held_capabilities(plan: &ProcessPlan, filtered: bool) -> u64 {
    if filtered && !plan.no_new_privileges { CAP_SYS_ADMIN } else { 0 }
}
