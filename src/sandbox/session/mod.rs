//! Sessions: sandboxes that stay between commands. A process of procrt's keeps the container, which has a first process of
//! procrt's own and nothing else; commands join it. So all that they use counts together, and all of it ends with the
//! keeper, even if that is killed.

mod exec;
mod keeper;
mod record;
mod workspace;

use std::fs;
use std::io::{Read, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

pub use exec::{ExecPolicy, exec};
use keeper::{Request, ask};
use record::{Record, Sessions};

use super::backend::{Ability, Backend, Choice};
use super::caller::Caller;
use super::decide;
use super::policy::{Bind, Level, Policy};
use super::spec::WORKSPACE;
use crate::container::{self, ProcessId};
use crate::error::{Context, Error, Kind, Result};
use crate::sandbox::engine;
use crate::sys::process::{Cloned, clone};

/// A session, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// Why it is not running any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was started, RFC 3339.
    pub started: String,
    /// Its level.
    pub level: Option<Level>,
    /// Its root, if it is not made of the host's.
    pub rootfs: Option<PathBuf>,
    /// Where its workspace is on the host.
    pub workspace: Option<PathBuf>,
    /// How many processes its commands have now.
    pub processes: usize,
}

/// How a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It takes commands.
    Running,
    /// It has ended by itself.
    Ended,
    /// Its keeper was killed, and all of it with that. Whoever takes its name, or stops it, removes what is left.
    Stale,
}

/// Starts a session under a policy, which holds for all its commands together; `limits.timeout` and `limits.output` are for
/// each command. A workspace is copied now, and goes with the session. This process must have one thread.
///
/// # Errors
/// [`Kind::Exists`] if there is a session of that name; what is wrong with the policy; [`Kind::Unsupported`] for a level
/// that is no container of procrt's own, or without a control group to be had; nothing is left then.
pub fn start(name: &str, policy: &Policy, caller: &Caller) -> Result<()> {
    let (job, backend) = decided(policy, caller)?;
    let sessions = Sessions::of_user()?;
    sessions.claim(name)?;
    let mut record = Record {
        name: name.to_owned(),
        // The keeper fills in itself.
        keeper: ProcessId { pid: 0, start_time: 0 },
        container: String::new(),
        policy: job.policy,
        environment: job.environment,
        caller_cwd: job.caller_cwd,
        backend,
        workspace: None,
        started: String::new(),
        ended: None,
    };
    let started = furnish(&sessions, &mut record).and_then(|()| have_kept(&sessions, &record));
    if started.is_err() {
        if let Some(workspace) = &record.workspace {
            let _ = fs::remove_dir_all(workspace);
        }
        let _ = sessions.give_up(name);
    }
    started
}

fn decided(policy: &Policy, caller: &Caller) -> Result<(super::running::Job, Choice)> {
    // The command is not run: it stands for those that come.
    let (mut job, choice) = decide(policy, caller, vec!["-".into()])?;
    if choice.backend != Backend::Engine {
        return Err(Error::unsupported("level: only enhanced and container can be kept between commands"));
    }
    // By its control group all that a command has started is ended.
    if let Some((_, reason)) = choice.cannot.iter().find(|(ability, _)| *ability == Ability::Pids) {
        return Err(Error::unsupported(format!("a sandbox that stays {reason}")));
    }
    job.terminal = false;
    Ok((job, choice))
}

/// Makes the session's copy of the workspace.
fn furnish(sessions: &Sessions, record: &mut Record) -> Result<()> {
    let Some(from) = record.policy.files.workspace.take() else { return Ok(()) };
    let to = record.workspace.insert(sessions.make_workspace(&record.name)?);
    let ids = record.policy.user.as_deref().map(crate::container::parse_user).transpose()?;
    let ids = ids.map(|(uid, gid)| (uid, gid.unwrap_or(uid)));
    let owner = ids.filter(|_| nix::unistd::geteuid().is_root());
    workspace::copy(&from, to, owner).context(|| format!("files.workspace: {:?}", from.display().to_string()))?;
    record.policy.files.rw.push(Bind { source: to.clone(), destination: Some(WORKSPACE.into()) });
    record.policy.files.cwd.get_or_insert_with(|| WORKSPACE.into());
    Ok(())
}

/// Makes the process that keeps it, and waits until it does.
fn have_kept(sessions: &Sessions, record: &Record) -> Result<()> {
    let what = || "make the process that keeps the session";
    let (mut answers, answer) = pipe().context(what)?;
    match clone(0, None, false).context(what)? {
        Cloned::Child => {
            drop(answers);
            keeper::keep(sessions, record.clone(), OwnedFd::from(answer))
        }
        Cloned::Parent { .. } => {
            drop(answer);
            let mut text = Vec::new();
            answers.read_to_end(&mut text).context(what)?;
            let answer: Option<Result<()>> = serde_json::from_slice(&text).ok();
            answer.ok_or_else(|| Error::system("it has ended early")).context(what)?
        }
    }
}

/// Stops a session, and removes all of it but what it was given to write to.
///
/// # Errors
/// [`Kind::NotFound`] if there is none; what could not be removed.
pub fn stop(name: &str) -> Result<()> {
    let sessions = Sessions::of_user()?;
    let record = sessions.read(name)?;
    let keeper = record.keeper.open()?;
    match ask(&sessions, name, &Request::Stop) {
        // Its keeper is gone: ended by itself, or killed.
        Err(error) if error.kind() == Kind::State && !record.is_kept() => sessions.clear(&record),
        answer => {
            answer?;
            // It has nothing left to do but to end.
            let Some(keeper) = keeper else { return Ok(()) };
            let mut fds = [PollFd::new(keeper.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(5_000_u16)).map(drop).context(|| "wait for the session's keeper")
        }
    }
}

/// Has a session go on with another root file system, and its workspace. Whatever runs in it ends; its /tmp is empty again.
///
/// # Errors
/// [`Kind::NotFound`] if there is none; what is wrong with the root: then the session is as it was.
pub fn swap(name: &str, rootfs: &Path, caller: &Caller) -> Result<()> {
    let sessions = Sessions::of_user()?;
    let record = sessions.read(name)?;
    let mut policy = record.policy;
    policy.level = Some(Level::Container);
    policy.files.rootfs = Some(rootfs.to_owned());
    // What stays as it was is absolute; what was the caller's directory then is not that of now.
    let caller_then = Caller { cwd: record.caller_cwd.clone(), ..caller.clone() };
    let rootfs = caller.cwd.join(rootfs);
    policy.files.rootfs = Some(rootfs);
    let (job, backend) = decided(&policy, &caller_then)?;
    ask(&sessions, name, &Request::Swap { policy: Box::new(job.policy), backend: Box::new(backend) })
}

/// All sessions of this user, by name.
///
/// # Errors
/// If they cannot be read.
pub fn list() -> Result<Vec<Report>> {
    let records = Sessions::of_user()?.all()?;
    Ok(records.into_iter().map(report).collect())
}

fn report(record: Record) -> Report {
    let (state, reason) = match record.ended.clone() {
        Some(why) => (State::Ended, Some(why)),
        None if record.is_kept() => (State::Running, None),
        None => (State::Stale, Some("its keeper was killed".to_owned())),
    };
    // The first process is procrt's.
    let processes = match state {
        State::Running => {
            let pids = engine::store().and_then(|store| container::processes(&store, &record.container));
            pids.map_or(0, |pids| pids.len())
        }
        _ => 0,
    };
    Report {
        name: record.name,
        state,
        reason,
        started: record.started,
        level: record.policy.level,
        rootfs: record.policy.files.rootfs,
        workspace: record.workspace,
        processes: processes.saturating_sub(1),
    }
}
