//! What both versions share: directories, their files, and the processes in them.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};

use super::{FileWrite, GroupPlan, tree};
use crate::error::{Context, Error, Kind, Result};
use crate::host::cgroups::ContainerCgroup;

/// How often the parents are made again when somebody else removes them meanwhile.
const ATTEMPTS: usize = 8;

/// Makes a container's directory in one hierarchy, and its parents if they are not there; answers whether it was there
/// before. What is made goes to `made`; `new_parent` prepares a parent.
pub(super) fn make(
    cgroup: &ContainerCgroup,
    made: &mut Vec<PathBuf>,
    new_parent: impl Fn(&Path) -> Result<()>,
) -> Result<bool> {
    let dir = cgroup.dir();
    for _ in 0..ATTEMPTS {
        match make_dir(&dir) {
            Ok(()) => {
                made.push(dir);
                return Ok(false);
            }
            Err(Errno::EEXIST) => return Ok(true),
            Err(Errno::ENOENT) => make_parents(cgroup, made, &new_parent)?,
            Err(errno) => return Err(errno).context(|| format!("make control group {dir:?}")),
        }
    }
    Err(Errno::ENOENT).context(|| format!("make control group {dir:?}"))
}

fn make_parents(
    cgroup: &ContainerCgroup,
    made: &mut Vec<PathBuf>,
    new_parent: &impl Fn(&Path) -> Result<()>,
) -> Result<()> {
    for dir in ancestors(cgroup).skip(1) {
        match make_dir(&dir) {
            Ok(()) => {
                made.push(dir.clone());
                new_parent(&dir)?;
            }
            Err(Errno::EEXIST) => {}
            Err(Errno::ENOENT) => break,
            Err(errno) => return Err(errno).context(|| format!("make control group {dir:?}")),
        }
    }
    Ok(())
}

/// The directories above a container's, from the hierarchy's mount point down.
pub(super) fn ancestors(cgroup: &ContainerCgroup) -> impl Iterator<Item = PathBuf> {
    let mut dir = cgroup.hierarchy.mount_point.clone();
    let above = cgroup.path.parent().unwrap_or(Path::new("/"));
    let names = above.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    std::iter::once(dir.clone()).chain(names.map(move |name| {
        dir.push(name);
        dir.clone()
    }))
}

/// Takes a directory for one container, as long as the descriptor that it answers is open: of two that come to the same
/// place at once, each would find it empty. `check` says whether it may be taken at all.
pub(super) fn take(dir: &Path, made: &mut Vec<PathBuf>, check: impl FnOnce() -> Result<()>) -> Result<OwnedFd> {
    let directory = fs::File::from(open_dir(dir).context(|| format!("open control group {dir:?}"))?);
    let taken = directory.try_lock();
    // Who is in it says more than who is about to be.
    let checked = check();
    match taken {
        Ok(()) => checked.map(|()| directory.into()),
        Err(fs::TryLockError::Error(error)) => Err(error).context(|| format!("lock control group {dir:?}")),
        Err(fs::TryLockError::WouldBlock) => {
            // Whoever has it does not care who has made the directory.
            made.retain(|made| made != dir);
            checked?;
            Err(Error::new(Kind::State, format!("control group {dir:?} is being taken by another container")))
        }
    }
}

/// A cgroup's directory, as `clone3` and bpf(2) take it.
pub(super) fn open_dir(dir: &Path) -> nix::Result<OwnedFd> {
    open(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn make_dir(dir: &Path) -> nix::Result<()> {
    mkdir(dir, Mode::from_bits_truncate(0o755))
}

/// Removes the directories of `made`, the last first. Failing, it leaves what others use by now.
pub(super) fn unmake(made: &[PathBuf]) {
    for dir in made.iter().rev() {
        let _ = rmdir(dir);
    }
}

fn rmdir(dir: &Path) -> nix::Result<()> {
    unlinkat(AT_FDCWD, dir, UnlinkatFlags::RemoveDir)
}

/// A file of a cgroup that was opened for writing, by its directory's descriptor or by its whole path.
pub(super) fn open_file(base: Option<BorrowedFd>, dir: &Path, file: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    match base {
        Some(base) => openat(base, file, flags, Mode::empty()),
        None => openat(AT_FDCWD, &dir.join(file), flags, Mode::empty()),
    }
}

/// Writes `value` to an open file of `dir`, in one call, as the kernel needs it.
pub(super) fn write_open(fd: impl AsFd, dir: &Path, file: &str, value: &str) -> Result<()> {
    nix::unistd::write(fd, value.as_bytes()).context(|| format!("write {value:?} to {:?}", dir.join(file))).map(drop)
}

/// Writes `value` to a file of `dir`.
pub(super) fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    let fd = open_file(None, dir, file).context(|| format!("open {:?}", dir.join(file)))?;
    write_open(fd, dir, file, value)
}

/// A file that a write is to, open, and the value for it.
pub(super) type Opened<'a> = (&'a str, OwnedFd, &'a str);

/// Opens what `write` is to; none if the file is not there and is not missed. `missing` may provide for a file that is not
/// there, and answers whether it did.
pub(super) fn open_for<'a>(
    base: Option<BorrowedFd>,
    dir: &Path,
    write: &'a FileWrite,
    missing: &mut impl FnMut() -> Result<bool>,
) -> Result<Option<Opened<'a>>> {
    let (mut file, mut value) = (write.file.as_ref(), write.value.as_str());
    let mut opened = open_file(base, dir, file);
    if opened.as_ref().err() == Some(&Errno::ENOENT)
        && !write.missing_ok
        && missing().map_err(|error| of_field(write, error))?
    {
        opened = open_file(base, dir, file);
    }
    if let (Err(Errno::ENOENT), Some(otherwise)) = (&opened, &write.otherwise) {
        (file, value) = (otherwise.0, otherwise.1.as_str());
        opened = open_file(base, dir, file);
    }
    match opened {
        Ok(fd) => Ok(Some((file, fd, value))),
        Err(Errno::ENOENT) if write.missing_ok => Ok(None),
        Err(errno) => {
            Err(of_field(write, Error::from(errno).context(format!("open {:?} to write {value:?}", dir.join(file)))))
        }
    }
}

/// Writes the value of `write` to a file that [`open_for`] has opened.
pub(super) fn write_opened(write: &FileWrite, dir: &Path, fd: impl AsFd, file: &str, value: &str) -> Result<()> {
    nix::unistd::write(fd, value.as_bytes()).map(drop).map_err(|errno| {
        let what = format!("write {value:?} to {:?}{}", dir.join(file), why(file, errno));
        of_field(write, Error::from(errno).context(what))
    })
}

fn of_field(write: &FileWrite, error: Error) -> Error {
    match &write.field {
        Some(field) => error.context(format!("linux.resources.{field}")),
        None => error,
    }
}

/// What the kernel means, where its error number says little.
fn why(file: &str, errno: Errno) -> &'static str {
    match errno {
        Errno::EBUSY if file.starts_with("memory.") => " (more than that is in use, and cannot be freed)",
        Errno::ENODEV if file.starts_with("io.") || file.starts_with("blkio.") => {
            " (there is no such disk, or it is a partition)"
        }
        _ if file.starts_with("cpuset.") => " (they are not all there, or not all the parent group's)",
        Errno::EINVAL if file.starts_with("cpu.rt_") => " (the parent group does not have that much)",
        _ => "",
    }
}

/// Carries out a plan's writes; `missing` may provide for a file that is not there, once, and answers whether it did.
pub(super) fn write_all(
    base: Option<BorrowedFd>,
    dir: &Path,
    writes: &[FileWrite],
    mut missing: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let mut open: Option<(&str, OwnedFd)> = None;
    for write in writes {
        if let Some((file, fd)) = open.as_ref().filter(|(file, _)| *file == write.file.as_ref()) {
            write_opened(write, dir, fd, file, &write.value)?;
        } else if let Some((file, fd, value)) = open_for(base, dir, write, &mut missing)? {
            write_opened(write, dir, &fd, file, value)?;
            open = Some((file, fd));
        }
    }
    check_cpusets(dir, writes)
}

/// Checks that a group has all CPUs and memory nodes that were asked for: version 2 takes the names of others, and then
/// gives what there is.
pub(super) fn check_cpusets(dir: &Path, writes: &[FileWrite]) -> Result<()> {
    for write in writes.iter().filter(|write| matches!(write.file.as_ref(), "cpuset.cpus" | "cpuset.mems")) {
        // Version 1 has another name for it, and has refused the write.
        let path = dir.join(format!("{}.effective", write.file));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.context(|| format!("read {path:?}"))?,
        };
        let there = text.trim();
        let has = numbers(there);
        if numbers(&write.value).iter().any(|(first, last)| !(*first..=*last).all(|n| covered(&has, n))) {
            let what =
                format!("write {:?} to {:?}: of these there are only {there}", write.value, dir.join(&*write.file));
            return Err(of_field(write, Error::config(what)));
        }
    }
    Ok(())
}

/// The ranges of a list such as `0-3,6`.
fn numbers(text: &str) -> Vec<(u32, u32)> {
    let ranges = text.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    });
    ranges.collect()
}

fn covered(ranges: &[(u32, u32)], number: u32) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
}

/// Checks a directory that was there before the container: nobody may be in it, and it may not use more memory than
/// the limit to come, if the plan wants to know.
pub(super) fn refuse_used(dir: &Path, plan: &GroupPlan) -> Result<()> {
    let pids = tree::pids(dir)?;
    if !pids.is_empty() {
        return Err(Error::new(Kind::State, format!("control group {dir:?} is in use by {}", name_pids(&pids))));
    }
    refuse_less_than_used(dir, plan)
}

/// Checks that no more memory is in use than the limit to come, if the plan wants to know.
pub(super) fn refuse_less_than_used(dir: &Path, plan: &GroupPlan) -> Result<()> {
    let Some(check) = &plan.usage_check else { return Ok(()) };
    let path = dir.join(check.file);
    let text = match fs::read_to_string(&path) {
        // The controller is not on yet: nothing was counted.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.context(|| format!("read {path:?}"))?,
    };
    match text.trim().parse::<u64>() {
        Ok(usage) if usage <= check.limit => Ok(()),
        _ => {
            let sentence =
                format!("linux.resources.memory.limit: {} is less than what is in use, {}", check.limit, text.trim());
            Err(Error::config(sentence))
        }
    }
}

/// `process 5`, `processes 5 and 6`, and no more than a few.
pub(super) fn name_pids(pids: &[i32]) -> String {
    const MOST: usize = 10;
    let words: Vec<String> = pids.iter().take(MOST).map(ToString::to_string).collect();
    let rest = if pids.len() > MOST { format!(" and {} more", pids.len() - MOST) } else { String::new() };
    format!("{} {}{rest}", if pids.len() == 1 { "process" } else { "processes" }, words.join(", "))
}
