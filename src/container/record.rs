//! What is remembered of a container between two commands, and what is true of it now.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::{ContainerState, LinuxResources};
use serde::{Deserialize, Serialize};

use super::store::Entry;
use super::{Report, Status};
use crate::bundle::OCI_VERSION;
use crate::cgroup::Cgroup;
use crate::cgroup::systemd::Unit;
use crate::error::{Context, Error, Result};
use crate::hooks::Hook;
use crate::host::cgroups::ContainerCgroups;
use crate::host::id_mapping::IdMapping;
use crate::host::procfs;
use crate::init;
use crate::resctrl;
use crate::sys::process::pidfd_open;

/// The record of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The id.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root file system's directory.
    pub rootfs: PathBuf,
    /// When its making began, in clock ticks since boot, as [`ProcessId::start_time`] is.
    pub begun: u64,
    /// When it was created (RFC 3339).
    pub created: String,
    /// The configuration's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The first process, once `create` has made it; a line of its own in the file.
    #[serde(skip)]
    pub process: Option<ProcessId>,
    /// Its control groups.
    pub cgroups: ContainerCgroups,
    /// systemd's unit, if it has made the control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// What they limit, as it was configured or updated last; what is not there is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<LinuxResources>,
    /// Its groups of resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<resctrl::Groups>,
    /// The maps of user and group ids of a user namespace that a plain user has made for it, with ids beside that user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subordinate: Option<(Vec<IdMapping>, Vec<IdMapping>)>,
    /// What processes that join it are told.
    pub joining: init::Container,
    /// Its mounts are the host's, with no mount namespace to take them away: how many were on its root before.
    pub mounts_on_host: Option<usize>,
    /// The configuration has no process: there is nothing to start.
    #[serde(default)]
    pub nothing_to_start: bool,
    /// Its PID namespace was made for it, and ends with its first process.
    #[serde(default)]
    pub own_pids: bool,
    /// Hooks for after the start.
    pub poststart: Vec<Hook>,
    /// Hooks for after the end.
    pub poststop: Vec<Hook>,
}

/// A process that cannot be mistaken for a later one with its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// The pid.
    pub pid: i32,
    /// When it began, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has `pid` now; nothing if there is none, or only what is left of one that has ended.
    ///
    /// # Errors
    /// If procfs cannot be read.
    pub fn of(pid: i32, proc: BorrowedFd) -> Result<Option<Self>> {
        let stat = match procfs::read(proc, &format!("{pid}/stat")) {
            Ok(stat) => stat,
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(None),
            Err(error) => return Err(error.context(format!("read /proc/{pid}/stat"))),
        };
        // The second field is a name in parentheses that may have anything in it.
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
        let state = fields.next().unwrap_or_default();
        let start_time = fields.nth(18).and_then(|field| field.parse().ok());
        Ok(match (state, start_time) {
            ("Z" | "X", _) | (_, None) => None,
            (_, Some(start_time)) => Some(Self { pid, start_time }),
        })
    }

    /// Whether the process has ended, or is about to: the first of a PID namespace kills all others and waits for them to
    /// be gone before it is. Where nobody can tell, it is not.
    pub fn is_ending(self) -> bool {
        const EXITING: u64 = 0x4; // PF_EXITING of the kernel's sched.h
        let stat = procfs::handle().and_then(|proc| {
            let stat = procfs::read(std::os::fd::AsFd::as_fd(&proc), &format!("{}/stat", self.pid));
            Ok((Self::of(self.pid, std::os::fd::AsFd::as_fd(&proc))?, stat.unwrap_or_default()))
        });
        let Ok((now, stat)) = stat else { return false };
        let flags =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6)?.parse::<u64>().ok());
        now != Some(self) || flags.is_some_and(|flags| flags & EXITING != 0)
    }

    /// A pidfd of this very process; nothing if it has ended.
    ///
    /// # Errors
    /// As pidfd_open(2).
    pub fn open(self) -> Result<Option<OwnedFd>> {
        let pidfd = match pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EINVAL) => return Ok(None),
            Err(errno) => return Err(errno).context(|| format!("open process {}", self.pid)),
        };
        // The pid was this process's when it was looked at after it was opened, so the descriptor is too.
        let proc = procfs::handle()?;
        Ok((Self::of(self.pid, std::os::fd::AsFd::as_fd(&proc))? == Some(self)).then_some(pidfd))
    }
}

impl Record {
    /// What is true of the container now.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub fn status(&self, entry: &Entry) -> Result<Status> {
        let Some(process) = self.process else {
            return Ok(Status::Creating);
        };
        let proc = procfs::handle()?;
        if ProcessId::of(process.pid, std::os::fd::AsFd::as_fd(&proc))? != Some(process) {
            return Ok(Status::Stopped);
        }
        if entry.has_gate() {
            return Ok(Status::Created);
        }
        Ok(if Cgroup::open(&self.cgroups).is_frozen()? { Status::Paused } else { Status::Running })
    }

    /// A container without a control group is known by its PID namespace.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::error::Kind::Unsupported) if it has neither.
    pub fn check_known(&self) -> Result<()> {
        if self.own_pids || !self.cgroups.0.is_empty() {
            return Ok(());
        }
        let why = "the container has neither a control group nor a PID namespace of its own to know its processes by";
        Err(Error::unsupported(why))
    }

    /// The container's state as the specification has it, for hooks; pid and status are the caller's to fill in.
    pub fn oci_state(&self) -> oci_spec::runtime::State {
        let mut state = oci_spec::runtime::State::default();
        state.set_version(OCI_VERSION.to_owned());
        state.set_id(self.id.clone());
        state.set_bundle(self.bundle.clone());
        if !self.annotations.is_empty() {
            state.set_annotations(Some(self.annotations.clone().into_iter().collect()));
        }
        state
    }

    /// Passes on the listener of the filter that process `pid` of the container is under to whoever is to answer its
    /// notifications; `status` is the container's.
    ///
    /// # Errors
    /// If it is not taken; or if no listener was asked for.
    pub fn pass_on(&self, listener: BorrowedFd, pid: i32, status: ContainerState) -> Result<()> {
        let agent = self.joining.seccomp.as_ref().and_then(|filter| filter.listener.as_ref());
        let agent = agent.ok_or_else(|| Error::system("the container's process says what is not its to say"))?;
        let mut state = self.oci_state();
        state.set_status(status);
        state.set_pid(self.process.map(|process| process.pid));
        agent.send(&state, pid, listener)
    }

    /// Whether somebody is to be given the listener of its filter.
    pub fn notifies(&self) -> bool {
        self.joining.seccomp.as_ref().is_some_and(|filter| filter.listener.is_some())
    }

    /// What `state` prints.
    ///
    /// # Errors
    /// As [`Record::status`].
    pub fn report(&self, entry: &Entry) -> Result<Report> {
        let status = self.status(entry)?;
        let pid = self.process.filter(|_| status != Status::Stopped).map_or(0, |process| process.pid);
        Ok(Report {
            oci_version: OCI_VERSION.to_owned(),
            id: self.id.clone(),
            pid,
            status,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: user_name(entry.owner()?),
        })
    }
}

/// The name of a user of the host's, or its number. The C library's lookup would load libraries into a static program.
fn user_name(uid: u32) -> String {
    let known = std::fs::read_to_string("/etc/passwd").ok().and_then(|text| {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?);
            (id.parse() == Ok(uid)).then(|| name.to_owned())
        })
    });
    known.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_pid() {
        let proc = procfs::handle().unwrap();
        let own = ProcessId::of(std::process::id() as i32, proc.as_fd()).unwrap().unwrap();
        assert!(own.open().unwrap().is_some());
        let later = ProcessId { start_time: own.start_time + 1, ..own };
        assert!(later.open().unwrap().is_none());
    }

    #[test]
    fn this_process_is_not_about_to_end() {
        let proc = procfs::handle().unwrap();
        let own = ProcessId::of(std::process::id() as i32, proc.as_fd()).unwrap().unwrap();
        assert!(!own.is_ending());
        assert!(ProcessId { start_time: own.start_time + 1, ..own }.is_ending());
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pidfd = pidfd_open(child.id() as i32).unwrap();
        let mut fds = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE).unwrap();
        let proc = procfs::handle().unwrap();
        assert_eq!(ProcessId::of(child.id() as i32, proc.as_fd()).unwrap(), None);
        child.wait().unwrap();
    }
}
