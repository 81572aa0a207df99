//! The process that becomes the command: from its cloning on, it gives up what it must not have, one thing after the other.

use std::convert::Infallible;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, chdir, getppid, setsid};

use super::domain::Domain;
use super::plan::Plan;
use crate::cgroup::Entrance;
use crate::error::{Context, Error, Result};
use crate::process::{self, Command};
use crate::seccomp;
use crate::sys::process::{close_all_but, restore_sigpipe, set_rlimit};
use crate::terminal::pty::Pty;
use crate::terminal::signals::Signals;

/// What the process takes along.
pub(super) struct Luggage<'a> {
    pub(super) plan: &'a Plan,
    pub(super) private: Option<&'a Path>,
    pub(super) domain: Option<Domain>,
    pub(super) entrance: Option<Entrance>,
    pub(super) pty: Option<Pty>,
    pub(super) signals: &'a Signals,
    /// Where it says why it could not become the command; closed when it does.
    pub(super) report: std::fs::File,
    pub(super) keeper: Pid,
}

/// Becomes the command, or says why not.
pub(super) fn run(mut luggage: Luggage) -> i32 {
    let mut report = luggage.report.try_clone();
    let Err(error) = become_command(&mut luggage);
    if let Ok(report) = &mut report {
        let _ = report.write_all(&serde_json::to_vec(&error).unwrap_or_default());
    }
    1
}

fn become_command(luggage: &mut Luggage) -> Result<Infallible> {
    let plan = luggage.plan;
    if let Some(entrance) = &luggage.entrance {
        entrance.enter()?;
    }
    setsid().context(|| "begin a session")?;
    if let Some(pty) = luggage.pty.take() {
        pty.adopt()?;
    }
    for limit in &plan.process.rlimits {
        set_rlimit(limit.resource, limit.soft, limit.hard)
            .context(|| format!("limits.rlimits.{}: set {}", limit.name, limit.soft))?;
    }
    if plan.becomes && plan.confined {
        process::become_user(&plan.process, 0)?;
    } else if plan.becomes {
        change_ids(plan)?;
    }
    // After the change of ids, which takes it away. Whoever has been killed before that must not be waited for.
    prctl::set_pdeathsig(Signal::SIGKILL).context(|| "die with the keeper")?;
    if getppid() != luggage.keeper {
        return Err(Error::system("the keeper was killed"));
    }
    let cwd = luggage.private.filter(|_| plan.process.cwd.as_os_str().is_empty()).unwrap_or(&plan.process.cwd);
    chdir(cwd).context(|| format!("files.cwd: enter {cwd:?}"))?;
    if plan.confined {
        prctl::set_no_new_privs().context(|| "set no_new_privs")?;
    }
    if let Some(domain) = luggage.domain.take() {
        domain.enter()?;
    }
    let command = Command::find(&plan.process)?;
    close_all_but(3, &mut [luggage.report.as_raw_fd()]).context(|| "close what the command must not have")?;
    luggage.signals.restore_in_child()?;
    restore_sigpipe().context(|| "restore the handling of SIGPIPE")?;
    if let Some(filter) = &plan.filter {
        seccomp::install(filter.finished())?;
    }
    Err(command.exec())
}

/// Becomes another user at level `off`, with what that gives and takes by itself.
fn change_ids(plan: &Plan) -> Result<()> {
    use nix::unistd::{Gid, Uid, setresgid, setresuid};
    let (uid, gid) = (Uid::from_raw(plan.process.uid), Gid::from_raw(plan.process.gid));
    crate::sys::process::set_groups(&[]).context(|| "user: leave the caller's groups")?;
    setresgid(gid, gid, gid).context(|| format!("user: become group {gid}"))?;
    setresuid(uid, uid, uid).context(|| format!("user: become {uid}"))
}
