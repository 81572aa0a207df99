//! Watching a container: what it uses, and that it is out of memory.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::Status;
use super::record::ProcessId;
use super::store::Store;
use crate::cgroup::{Cgroup, Stats};
use crate::error::{Context, Error, Kind, Result};

/// One thing to tell of a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// What it is.
    #[serde(flatten)]
    pub what: What,
    /// The container's id.
    pub id: String,
    /// What it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Stats>>,
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum What {
    /// What the container uses.
    Stats,
    /// The container was out of memory.
    Oom,
}

/// What a container uses now.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::State`] if it is stopped or being created.
pub fn stats(store: &Store, id: &str) -> Result<Event> {
    let (cgroup, _) = running(store, id)?;
    Ok(Event { what: What::Stats, id: id.to_owned(), data: Some(Box::new(cgroup.stats())) })
}

/// Tells what a container uses every `interval`, and when it is out of memory, until it ends.
///
/// # Errors
/// As [`stats`]; that its control groups cannot be watched; what `tell` fails with.
pub fn events(store: &Store, id: &str, interval: Duration, mut tell: impl FnMut(&Event) -> Result<()>) -> Result<()> {
    let (cgroup, process) = running(store, id)?;
    let mut oom = cgroup.watch_oom()?;
    let Some(pidfd) = process.open()? else { return Ok(()) };
    let event = |what, data| Event { what, id: id.to_owned(), data };
    let mut next = Instant::now() + interval;
    loop {
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        if let Some(oom) = &oom {
            let (fd, flags) = oom.pollable();
            fds.push(PollFd::new(fd, flags));
        }
        let left = next.saturating_duration_since(Instant::now());
        // Not a moment too early: the rest of a millisecond is waited for too.
        let left = PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context(|| format!("wait for events of {id:?}")),
        }
        let ended = fds[0].any().unwrap_or_default();
        if let Some(oom) = &mut oom
            && oom.happened()?
        {
            tell(&event(What::Oom, None))?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            tell(&event(What::Stats, Some(Box::new(cgroup.stats()))))?;
            next += interval;
        }
    }
}

/// The control groups and the first process of a container that has not ended.
fn running(store: &Store, id: &str) -> Result<(Cgroup, ProcessId)> {
    let entry = store.find(id)?;
    let not_running = || Error::new(Kind::State, format!("events of {id:?}: container not running"));
    let record = entry.read()?.ok_or_else(not_running)?;
    match (record.status(&entry)?, record.process) {
        (Status::Stopped | Status::Creating, _) | (_, None) => Err(not_running()),
        (_, Some(process)) => Ok((Cgroup::open(&record.cgroups), process)),
    }
}
