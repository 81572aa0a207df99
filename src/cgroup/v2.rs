//! cgroup2 (Documentation/admin-guide/cgroup-v2.rst), by its files and nothing else.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::pread;
use nix::unistd::{Uid, fchownat};

use super::plan::left_to_user_namespace;
use super::{GroupPlan, control};
use crate::error::{Context, Error, Kind, Result};
use crate::host::caller::{Caller, makes_no_devices};
use crate::sys::bpf::{self, Instruction};

/// Where the kernel says which files of a cgroup its owner needs.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";

/// Makes one container's cgroup, and answers its directory's descriptor. What is made goes to `made`, also on failure.
///
/// Controllers are handed down the tree only when a file is found missing: all but the first container find them there.
pub(super) fn create(plan: &GroupPlan, made: &mut Vec<PathBuf>) -> Result<OwnedFd> {
    let dir = plan.cgroup.dir();
    let existed = control::make(&plan.cgroup, made, |_| Ok(()))?;
    let fd = control::take(&dir, made, || {
        if !existed {
            return Ok(());
        }
        control::refuse_used(&dir, plan)?;
        if is_frozen(&dir)? {
            return Err(Error::new(Kind::State, format!("control group {dir:?} is frozen")));
        }
        refuse_threaded(&dir)
    })?;
    if existed {
        control::write_all(Some(fd.as_fd()), &dir, &plan.writes, hand_down_once(plan))?;
        unless_left(set_device_program(fd.as_fd(), &dir, plan.device_program.as_deref()))?;
        if let Some(owner) = plan.owner {
            give_to(owner, fd.as_fd(), &dir)?;
        }
    } else {
        set_limits(plan, fd.as_fd(), &dir)?;
    }
    Ok(fd)
}

/// Puts the limits into a cgroup that systemd has made, and answers its directory's descriptor.
pub(super) fn set_up(plan: &GroupPlan) -> Result<OwnedFd> {
    let dir = plan.cgroup.dir();
    let fd = control::open_dir(&dir).context(|| format!("open control group {dir:?}"))?;
    set_limits(plan, fd.as_fd(), &dir)?;
    Ok(fd)
}

/// Writes the limits of a cgroup that is new.
fn set_limits(plan: &GroupPlan, fd: BorrowedFd, dir: &Path) -> Result<()> {
    control::write_all(Some(fd), dir, &plan.writes, hand_down_once(plan))?;
    if let Some(owner) = plan.owner {
        give_to(owner, fd, dir)?;
    }
    let Some(program) = &plan.device_program else { return Ok(()) };
    let load = || {
        let program = bpf::load_device_program(program).context(|| "load the device program")?;
        let what = || format!("attach the device program to {dir:?}");
        bpf::attach_device_program(fd, program.as_fd(), None).context(what)
    };
    unless_left(load())
}

/// Only root of the host may hold devices back; where it has not to be done, that is no error.
fn unless_left(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.errno() == Some(libc::EPERM) && makes_no_devices() => {
            left_to_user_namespace();
            Ok(())
        }
        done => done,
    }
}

/// Gives a cgroup to `owner`: the directory, and the files that the kernel says may be given away (cgroup-v2.rst,
/// "Model of Delegation"). The limits stay root's.
fn give_to(owner: u32, fd: BorrowedFd, dir: &Path) -> Result<()> {
    let what = |name: &str| format!("give {:?} to user {owner}", dir.join(name));
    let uid = Some(Uid::from_raw(owner));
    match fchownat(fd, ".", uid, None, AtFlags::empty()) {
        // A plain user gives nothing away: the container's root, who is another, finds the group as read-only as others.
        Err(Errno::EPERM) if Caller::find()?.is_plain() => {
            log::debug!("{}: a plain user cannot", what(""));
            return Ok(());
        }
        given => given.context(|| what(""))?,
    }
    let list = std::fs::read_to_string(DELEGATE).context(|| format!("read {DELEGATE}"))?;
    for name in list.lines().filter(|name| !name.is_empty() && !name.contains('/')) {
        match fchownat(fd, name, uid, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // It is of a controller that the group does not have.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).context(|| what(name)),
        }
    }
    Ok(())
}

/// Checks that a directory that was there can have processes with memory of their own.
fn refuse_threaded(dir: &Path) -> Result<()> {
    let path = dir.join("cgroup.type");
    let text = std::fs::read_to_string(&path).context(|| format!("read {path:?}"))?;
    match text.trim() {
        // What threads divide among themselves below it is no matter of the container's.
        "domain" | "domain threaded" => Ok(()),
        kind => {
            Err(Error::new(Kind::State, format!("control group {dir:?} is {kind}: it takes threads and no processes")))
        }
    }
}

/// Says why no process can be born in `dir`, where the kernel's number for it says little.
pub(super) fn explain_birth(error: Error, dir: &Path) -> Error {
    match error.errno().map(Errno::from_raw) {
        Some(Errno::EBUSY) => error.context(format!(
            "control group {dir:?} hands controllers down to others inside it, and so may have no processes of its own"
        )),
        Some(Errno::EACCES) => error.context(format!(
            "control group {dir:?} is not this user's to move processes of procrt's own control group to (cgroups(7), \
             \"Delegation containment rules\")"
        )),
        Some(Errno::EOPNOTSUPP) => {
            error.context(format!("control group {dir:?}, or one above it, is threaded, and takes no processes"))
        }
        _ => error,
    }
}

/// Has the plan's controllers handed down the first time that a file is missing; answers whether it did.
pub(super) fn hand_down_once(plan: &GroupPlan) -> impl FnMut() -> Result<bool> {
    let mut handed_down = plan.controllers.is_empty();
    move || {
        if handed_down {
            return Ok(false);
        }
        handed_down = true;
        hand_down(plan).map(|()| true)
    }
}

/// Puts a device program, or none, in the place of procrt's own that is there, in one instant. Others' stay.
pub(super) fn set_device_program(fd: BorrowedFd, dir: &Path, program: Option<&[Instruction]>) -> Result<()> {
    let own = bpf::own_device_programs(fd).context(|| format!("look for the device program of {dir:?}"))?;
    let mut own = own.iter().map(AsFd::as_fd);
    if let Some(program) = program {
        let program = bpf::load_device_program(program).context(|| "load the device program")?;
        bpf::attach_device_program(fd, program.as_fd(), own.next())
            .context(|| format!("attach the device program to {dir:?}"))?;
    }
    for old in own {
        bpf::detach_device_program(fd, old).context(|| format!("take a device program from {dir:?}"))?;
    }
    Ok(())
}

/// Enables a plan's controllers in every ancestor, from the root down.
fn hand_down(plan: &GroupPlan) -> Result<()> {
    let words: Vec<String> = plan.controllers.iter().map(|name| format!("+{name}")).collect();
    let value = words.join(" ");
    for dir in control::ancestors(&plan.cgroup) {
        let written = control::write(&dir, "cgroup.subtree_control", &value);
        // Above what is delegated to this user, whoever has done so has seen to it.
        if written.as_ref().is_err_and(|error| matches!(error.errno(), Some(libc::EACCES | libc::EPERM | libc::EROFS)))
            && has_handed_down(&dir, &plan.controllers)
        {
            continue;
        }
        written.map_err(|error| {
            let why = match error.errno().map(Errno::from_raw) {
                Some(Errno::EBUSY) => "it has processes of its own, which version 2 forbids",
                Some(Errno::EOPNOTSUPP) => "it, or one above it, is threaded",
                Some(Errno::ENOENT) => "it does not have them itself",
                _ => return error,
            };
            error.context(format!("hand controllers down from {dir:?} ({why})"))
        })?;
    }
    Ok(())
}

fn has_handed_down(dir: &Path, controllers: &[String]) -> bool {
    let text = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    controllers.iter().all(|name| text.split_whitespace().any(|word| word == name))
}

/// Kills every process of the subtree, also those that are being forked.
pub(super) fn kill(dir: &Path) -> Result<()> {
    match control::write(dir, "cgroup.kill", "1") {
        Err(error) if is_gone(&error) => Ok(()),
        done => done,
    }
}

/// Freezes the subtree and waits until it is frozen, or thaws it.
pub(super) fn freeze(dir: &Path, frozen: bool, limit: Duration) -> Result<()> {
    control::write(dir, "cgroup.freeze", if frozen { "1" } else { "0" })?;
    if !frozen || wait_for(dir, "frozen 1", limit)? {
        return Ok(());
    }
    control::write(dir, "cgroup.freeze", "0")?;
    Err(Error::system(format!("freeze {dir:?}: not done after {} ms", limit.as_millis())))
}

/// Whether the whole subtree is frozen.
pub(super) fn is_frozen(dir: &Path) -> Result<bool> {
    wait_for(dir, "frozen 1", Duration::ZERO)
}

/// Waits until no process is left in the subtree; answers whether that came true.
pub(super) fn wait_until_empty(dir: &Path, limit: Duration) -> Result<bool> {
    match wait_for(dir, "populated 0", limit) {
        Err(error) if is_gone(&error) => Ok(true),
        answer => answer,
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error.errno().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENODEV))
}

/// Waits by poll(2) until `cgroup.events` has the line `wanted`; answers whether it came within `limit`.
fn wait_for(dir: &Path, wanted: &str, limit: Duration) -> Result<bool> {
    let path = dir.join("cgroup.events");
    let file = File::open(&path).context(|| format!("open {path:?}"))?;
    let end = Instant::now() + limit;
    loop {
        let mut buffer = [0; 256];
        let count = pread(&file, &mut buffer, 0).context(|| format!("read {path:?}"))?;
        if buffer[..count].split(|byte| *byte == b'\n').any(|line| line == wanted.as_bytes()) {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context(|| format!("poll {path:?}")),
        }
    }
}
