//! The last steps of a container's first process and of one that joins it: a process in the container's namespaces and
//! root becomes one of its users and then the program.

use std::convert::Infallible;

use nix::sys::prctl;

use crate::error::{Context, Error, Result};
use crate::process::{self, Command, ProcessPlan};
use crate::seccomp::{self, Finished};
use crate::sys;
use crate::terminal::signals::Signals;

/// CAP_SYS_ADMIN: what installing a filter without `no_new_privs` takes.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Enters the working directory, becomes the user and finds the program: after this the process is the container's, but
/// for its program and its filter. A plan without a program has none.
///
/// # Errors
/// Whichever step failed.
pub(super) fn prepare(plan: &ProcessPlan, filtered: bool, preserve_fds: u32) -> Result<Option<Command>> {
    let entered = if plan.is_missing() { Ok(()) } else { process::enter_cwd(plan) };
    process::become_user(plan, held_capabilities(plan, filtered))?;
    if entered.is_err() {
        // A directory that is closed to root, such as a user's on a network file system, is open to its user.
        process::enter_cwd(plan)?;
    }
    let command = (!plan.is_missing()).then(|| Command::find(plan)).transpose()?;
    sys::process::close_from_on_exec(3 + preserve_fds).context(|| "close descriptors at exec")?;
    Ok(command)
}

/// Becomes the program. `signals` are those that the caller holds back.
///
/// # Errors
/// Whichever step failed.
pub(super) fn begin(
    plan: &ProcessPlan,
    filter: Option<Finished>,
    command: Option<&Command>,
    signals: Option<&Signals>,
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
        seccomp::install(filter)?;
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
