//! Signals to a container.

use super::Status;
use super::record::ProcessId;
use super::store::Store;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::host::pid_namespace;
use crate::sys::process::{pidfd_open, pidfd_send_signal};

/// Sends `signal` to a container's first process, or with `all` to every process of its control group.
///
/// # Errors
/// [`Kind::NotFound`], or [`Kind::State`] if the container is not running.
pub fn kill(store: &Store, id: &str, signal: i32, all: bool) -> Result<()> {
    let entry = store.find(id)?;
    // engines look for this wording
    let not_running = || Error::new(Kind::State, format!("kill {id:?}: container not running"));
    let record = entry.read()?.ok_or_else(not_running)?;
    if all && record.cgroups.0.is_empty() {
        record.check_known().context(|| format!("kill all of {id:?}"))?;
        // The kernel ends the others with the first.
        if signal != libc::SIGKILL
            && let Some(first) = record.process.filter(|process| !process.is_ending())
        {
            let send = |pid| pidfd_open(pid).and_then(|pidfd| pidfd_send_signal(pidfd, signal));
            return pid_namespace::signal_all(first.pid, send).context(|| format!("kill all of {id:?}"));
        }
    } else if all {
        // What a container in the host's PID namespace has left running can be ended when its first process is gone.
        return Cgroup::open(&record.cgroups).kill(signal).context(|| format!("kill all of {id:?}"));
    }
    if record.status(&entry)? == Status::Stopped {
        return Err(not_running());
    }
    let pidfd = record.process.map(ProcessId::open).transpose()?.flatten().ok_or_else(not_running)?;
    match pidfd_send_signal(pidfd, signal) {
        Err(nix::errno::Errno::ESRCH) => return Err(not_running()),
        answer => answer.context(|| format!("kill {id:?} with signal {signal}"))?,
    }
    if signal == libc::SIGKILL {
        Cgroup::open(&record.cgroups).let_die()?;
    }
    Ok(())
}
