//! Being told when a container is out of memory.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::uio::pread;

use super::{Cgroup, control};
use crate::error::{Context, Result};
use crate::host::cgroups::Version;

/// Something that can be polled for a lack of memory.
#[derive(Debug)]
pub struct OomWatch(Kind);

#[derive(Debug)]
enum Kind {
    /// `memory.events`, and the number of kills that were seen in it.
    V2 { events: File, path: PathBuf, seen: u64 },
    /// Told by the memory controller (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control").
    V1 { eventfd: EventFd, control: PathBuf },
}

impl Cgroup {
    /// Watches for a lack of memory from now on; none where no limit on memory is counted.
    ///
    /// # Errors
    /// The control group's files are there and cannot be used.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let Some(cgroup) = self.cgroups().0.iter().find(|cgroup| cgroup.hierarchy.has("memory")) else {
            return Ok(None);
        };
        let dir = cgroup.dir();
        match cgroup.hierarchy.version {
            Version::V2 => {
                let path = dir.join("memory.events");
                let events = match File::open(&path) {
                    // The controller is not handed down to this group.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    file => file.context(|| format!("open {path:?}"))?,
                };
                let seen = kills(&events).context(|| format!("read {path:?}"))?;
                Ok(Some(OomWatch(Kind::V2 { events, path, seen })))
            }
            Version::V1 => {
                let path = dir.join("memory.oom_control");
                let file = File::open(&path).context(|| format!("open {path:?}"))?;
                let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
                let eventfd = EventFd::from_flags(flags).context(|| "make an eventfd")?;
                let pair = format!("{} {}", eventfd.as_fd().as_raw_fd(), file.as_raw_fd());
                control::write(&dir, "cgroup.event_control", &pair)?;
                Ok(Some(OomWatch(Kind::V1 { eventfd, control: path })))
            }
        }
    }
}

impl OomWatch {
    /// What to poll, and for what.
    pub fn pollable(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.0 {
            Kind::V2 { events, .. } => (events.as_fd(), PollFlags::POLLPRI),
            Kind::V1 { eventfd, .. } => (eventfd.as_fd(), PollFlags::POLLIN),
        }
    }

    /// Whether there has been a lack of memory since the last time that this was asked.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn happened(&mut self) -> Result<bool> {
        match &mut self.0 {
            Kind::V2 { events, path, seen } => {
                let now = match kills(events) {
                    // The group is gone, and says nothing more.
                    Err(nix::errno::Errno::ENODEV) => return Ok(false),
                    now => now.context(|| format!("read {path:?}"))?,
                };
                Ok(std::mem::replace(seen, now) < now)
            }
            // The removal of the group is told in the same way.
            Kind::V1 { eventfd, control } => Ok(eventfd.read().is_ok() && control.exists()),
        }
    }
}

fn kills(events: &File) -> nix::Result<u64> {
    let mut buffer = [0; 512];
    let count = pread(events, &mut buffer, 0)?;
    let text = String::from_utf8_lossy(&buffer[..count]);
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(line.and_then(|number| number.trim().parse().ok()).unwrap_or_default())
}
