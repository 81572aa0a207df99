//! Version 1's hierarchies (Documentation/admin-guide/cgroup-v1), by their files.
//!
//! Not through the cgroups-rs crate: it joins by `cgroup.procs`, which costs a grace period (see [`super::Entrance`]),
//! reads mountinfo again for every handle, and leaves out the cgroup2 mount of a hybrid host.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::plan::left_to_user_namespace;
use super::{GroupPlan, control};
use crate::error::{Context, Error, Kind, Result};
use crate::host::caller::makes_no_devices;

/// Makes one container's cgroup, and if `take` says so, takes it for as long as the answer is open. What is made goes to
/// `made`, also on failure.
pub(super) fn create(plan: &GroupPlan, made: &mut Vec<PathBuf>, take: bool) -> Result<Option<OwnedFd>> {
    let hierarchy = &plan.cgroup.hierarchy;
    let dir = plan.cgroup.dir();
    let cpuset = hierarchy.has("cpuset");
    let existed = control::make(&plan.cgroup, made, |parent| {
        if !cpuset {
            return Ok(());
        }
        inherit_cpuset(parent)?;
        // The kernel then gives every cgroup made below the same CPUs and memory nodes itself.
        control::write(parent, "cgroup.clone_children", "1")
    })?;
    let check = || {
        if !existed {
            return Ok(());
        }
        control::refuse_used(&dir, plan)?;
        if hierarchy.has("freezer") && is_frozen(&dir)? {
            return Err(Error::new(Kind::State, format!("control group {dir:?} is frozen")));
        }
        Ok(())
    };
    let taken = if take { Some(control::take(&dir, made, check)?) } else { check().map(|()| None)? };
    if cpuset {
        inherit_cpuset(&dir)?;
    }
    let of_devices = || plan.writes.iter().all(|write| write.file.starts_with("devices."));
    match control::write_all(None, &dir, &plan.writes, || Ok(false)) {
        // Only root of the host may hold devices back.
        Err(error) if error.errno() == Some(libc::EPERM) && of_devices() && makes_no_devices() => {
            left_to_user_namespace();
        }
        written => written?,
    }
    Ok(taken)
}

/// Gives a cpuset its parent's CPUs and memory nodes where it has none: no process can join it before.
fn inherit_cpuset(dir: &Path) -> Result<()> {
    let read = |dir: &Path, file: &str| {
        let path = dir.join(file);
        fs::read_to_string(&path).context(|| format!("read {path:?}"))
    };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if !read(dir, file)?.trim().is_empty() {
            continue;
        }
        let Some(parent) = dir.parent().filter(|parent| parent.join(file).exists()) else { continue };
        let mut inherited = read(parent, file)?;
        if inherited.trim().is_empty() {
            inherit_cpuset(parent)?;
            inherited = read(parent, file)?;
        }
        control::write(dir, file, inherited.trim())?;
    }
    Ok(())
}

/// Freezes the subtree and waits until it is frozen, or thaws it. There is no event to wait for: the state is read again.
pub(super) fn freeze(dir: &Path, frozen: bool, limit: Duration) -> Result<()> {
    if !frozen {
        return control::write(dir, "freezer.state", "THAWED");
    }
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(20);
    loop {
        // Written again each time: a process forked meanwhile can hold the freezer up.
        control::write(dir, "freezer.state", "FROZEN")?;
        if is_frozen(dir)? {
            return Ok(());
        }
        if Instant::now() >= end {
            control::write(dir, "freezer.state", "THAWED")?;
            return Err(Error::system(format!("freeze {dir:?}: not done after {} ms", limit.as_millis())));
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Whether the whole subtree is frozen.
pub(super) fn is_frozen(dir: &Path) -> Result<bool> {
    let path = dir.join("freezer.state");
    Ok(fs::read_to_string(&path).context(|| format!("read {path:?}"))?.trim() == "FROZEN")
}
