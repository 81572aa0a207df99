//! The backend of procrt's own engine: a policy becomes a container, which lives as long as its command.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getegid, geteuid};
use oci_spec::runtime::LinuxSeccomp;

use super::backend::Choice;
use super::filter::{compiled_default_filter, from_file};
use super::place;
use super::policy::{Bind, NetworkMode, Seccomp, Size};
use super::running::{Job, Started};
use super::spec::{self, Around};
use super::system::System;
use crate::cgroup::Usage;
use crate::container::{self, Attended, CreateOptions, Given, Store};
use crate::error::{Error, Result};
use crate::seccomp::SeccompPlan;
use crate::sys::child::Ending;
use crate::sys::process::{pidfd_open, pidfd_send_signal};
use crate::terminal::signals::Signals;

/// Where the containers of sandboxes are kept, for their makers to find what others have left.
///
/// # Errors
/// If it is not this user's alone.
pub fn store() -> Result<Store> {
    place::of_user("procrt-sandbox").map(Store::new)
}

/// Starts a job in a container.
///
/// # Errors
/// What is wrong with the policy, what this host cannot do, or the step that failed; nothing is left then.
pub fn start(job: &Job, _choice: &Choice, signals: &Signals) -> Result<Box<dyn Started>> {
    Ok(Box::new(Engine { container: contain(job, false, signals)? }))
}

/// Makes the container of a job without its command, for others to join.
///
/// # Errors
/// As [`start`].
pub fn hold(job: &Job, signals: &Signals) -> Result<Attended> {
    contain(job, true, signals)
}

/// What is to be made for a job.
pub(super) fn given(job: &Job, held: bool) -> Result<Given> {
    let system = system(job);
    let own = (geteuid().as_raw(), getegid().as_raw());
    let ids = job.policy.user.as_deref().map_or(Ok(own), ids)?;
    let mapped = (own.0 != 0).then_some(own);
    let (filter, compiled) = filters(job)?;
    let mut given =
        spec::build(job, &Around { system: &system, ids, mapped, disks: disks(job, &system)?, filter, compiled })?;
    if held {
        given.held = true;
        // Each command's processes can be ended together.
        given.controllers.push("freezer");
    }
    Ok(given)
}

fn contain(job: &Job, held: bool, signals: &Signals) -> Result<Attended> {
    let given = given(job, held)?;
    let store = store()?;
    if let Err(error) = container::sweep(&store, maker_may_live) {
        log::warn!("look for what is left of other sandboxes: {error}");
    }
    let options = CreateOptions { id: own_id(), ..CreateOptions::default() };
    Attended::start(&store, &options, &given, signals)
}

/// The disks that hold what the job sees of the host, if it is to be held back on them.
fn disks(job: &Job, system: &System) -> Result<Vec<(i64, i64)>> {
    let Some(rate) = job.policy.limits.io_bps else { return Ok(Vec::new()) };
    let files = &job.policy.files;
    let binds = files.ro.iter().chain(&files.rw).chain(&files.overlay).map(|bind| bind.source.as_path());
    let more = [&files.workspace, &files.out, &files.rootfs].into_iter().flatten().map(PathBuf::as_path);
    let system = system.entries.iter().map(|(path, _)| path.as_path());
    disks_of(rate, binds.chain(more).chain(system))
}

/// The disks that hold these paths.
///
/// # Errors
/// `Kind::Unsupported` if none is on a disk that can be held back to `rate`.
pub(super) fn disks_of<'a>(rate: Size, paths: impl Iterator<Item = &'a Path>) -> Result<Vec<(i64, i64)>> {
    let mut disks: Vec<(i64, i64)> = paths.filter_map(disk_of).collect();
    disks.sort_unstable();
    disks.dedup();
    if disks.is_empty() {
        let what =
            format!("limits.io_bps: \"{rate}\" cannot be enforced: no path that is shown is on a disk of its own");
        return Err(Error::unsupported(what));
    }
    Ok(disks)
}

/// The whole disk that the file system at a path is on. None if that is not on one, or on several.
fn disk_of(path: &Path) -> Option<(i64, i64)> {
    let device = nix::sys::stat::stat(path).ok()?.st_dev;
    let (major, minor) = (libc::major(device), libc::minor(device));
    let entry = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let disk = if entry.join("partition").exists() { entry.parent()? } else { &entry };
    let text = std::fs::read_to_string(disk.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What of the host the job's root is made of.
fn system(job: &Job) -> System {
    let files = &job.policy.files;
    if files.rootfs.is_some() && files.ro.is_empty() && files.rw.is_empty() && files.overlay.is_empty() {
        return System::default();
    }
    let system = System::find(job.policy.network.mode == Some(NetworkMode::Host));
    // Those of homes are below these, as a rule, or the caller's is below another directory.
    let broad = |bind: &Bind| bind.source.components().count() <= 2;
    if files.ro.iter().chain(&files.rw).chain(&files.overlay).any(broad) { system.with_homes() } else { system }
}

/// The filter that a policy asks for; the sandbox's own is compiled already.
fn filters(job: &Job) -> Result<(Option<LinuxSeccomp>, Option<SeccompPlan>)> {
    match job.policy.seccomp.as_ref().unwrap_or(&Seccomp::Default) {
        Seccomp::Default => Ok((None, Some(compiled_default_filter()))),
        Seccomp::None => Ok((None, None)),
        Seccomp::File(path) => Ok((Some(from_file(path)?), None)),
    }
}

/// `UID[:GID]`, as a policy has it.
fn ids(text: &str) -> Result<(u32, u32)> {
    let wrong = || Error::config(format!("user: {text:?} is not UID or UID:GID, numbers"));
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    Ok((uid.parse().map_err(|_| wrong())?, gid.parse().map_err(|_| wrong())?))
}

/// An id that no living process but this one makes, from which [`maker_may_live`] tells the maker.
pub(super) fn own_id() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{:x}-{count}", std::process::id(), now.as_nanos())
}

/// Whether the process that has taken this id may live. Its lock says more, but costs more to be asked.
fn maker_may_live(id: &str) -> bool {
    let pid = id.split('-').next().and_then(|pid| pid.parse().ok());
    pid.is_some_and(|pid: i32| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}

/// A command in a container.
struct Engine {
    container: Attended,
}

impl Started for Engine {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.container.pidfd()
    }

    fn signal(&mut self, signal: i32) -> Result<()> {
        self.container.signal(signal)
    }

    fn terminate(&mut self) -> Result<()> {
        // The first process is procrt's own, and holds its signals back. One that is gone is not missed; and whoever has its
        // number by now is not in the group.
        let cgroup = self.container.cgroup();
        let open = |pid| Some((pid, pidfd_open(pid).ok()?));
        let all: Vec<(i32, OwnedFd)> = cgroup.pids()?.into_iter().filter_map(open).collect();
        let now = cgroup.pids()?;
        for (_, pidfd) in all.iter().filter(|(pid, _)| now.contains(pid)) {
            let _ = pidfd_send_signal(pidfd, libc::SIGTERM);
        }
        self.container.signal(libc::SIGTERM)
    }

    fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.container.take_master()
    }

    fn kill_all(&mut self) -> Result<()> {
        self.container.end()
    }

    fn wait(&mut self) -> Result<Ending> {
        self.container.wait()
    }

    fn usage(&mut self) -> Usage {
        self.container.cgroup().usage()
    }

    fn remove(self: Box<Self>) -> Result<()> {
        self.container.remove()
    }
}
