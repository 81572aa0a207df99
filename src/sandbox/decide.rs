//! From a policy and a command to what is carried out, and to its end.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::BorrowedFd;

use super::backend::{Backend, Choice, choose};
use super::caller::Caller;
use super::outcome::Outcome;
use super::policy::Policy;
use super::running::Job;
use super::supervise::{Start, supervise};
use super::{capabilities, confine, engine, environment, runtime};
use crate::error::{Error, Kind, Result};

/// Decides everything about `command` under `policy`: the backend, the policy in force, the environment. Nothing is made.
///
/// # Errors
/// As [`choose`] and [`Policy::effective`]; if there is no command.
pub fn decide(policy: &Policy, caller: &Caller, command: Vec<OsString>) -> Result<(Job, Choice)> {
    if command.first().is_none_or(|program| program.is_empty()) {
        return Err(Error::config("there is no command to be run"));
    }
    let choice = choose(policy, caller)?;
    let policy = policy.effective(caller, &choice)?;
    let environment = environment::build(&policy, caller)?;
    // What is written to a terminal of its own cannot be counted at the same time.
    let terminal = caller.terminal && std::io::stdout().is_terminal() && policy.limits.output.is_none();
    Ok((Job { policy, command, environment, caller_cwd: caller.cwd.clone(), terminal }, choice))
}

/// Carries it out in this process, which must have one thread and nothing else to do, and waits for its end: the command has
/// this process's standard descriptors, its signals are handed on, and if it is killed, so is all that the command has
/// started.
///
/// # Errors
/// Why the command could not be run; nothing of it is left then.
pub fn run(job: &Job, choice: &Choice) -> Result<Outcome> {
    run_while(job, choice, None)
}

/// The same, for as long as the other end of `wanted`, a pipe's, is open.
pub(super) fn run_while(job: &Job, choice: &Choice, wanted: Option<BorrowedFd>) -> Result<Outcome> {
    let start: Start = match choice.backend {
        Backend::Engine => engine::start,
        Backend::Process => confine::start,
        Backend::Runtime { .. } => runtime::start,
    };
    supervise(job, choice, start, wanted).map_err(|error| match choice.backend {
        Backend::Engine if error.kind() == Kind::System => lacking(choice, error),
        _ => error,
    })
}

/// Whether a container could not be made because there are no namespaces for this caller, which is looked at only now: where
/// there are, the look would cost as much as the container.
fn lacking(choice: &Choice, error: Error) -> Error {
    let tried = Caller::this_process().and_then(|caller| capabilities::namespaces(&caller));
    match tried {
        Ok(()) => error,
        Err(why) => Error::unsupported(format!(
            "level: {} takes namespaces, which this user cannot have here ({why}); --level default takes none",
            super::backend::word(choice.level)
        )),
    }
}
