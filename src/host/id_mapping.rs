//! Maps of ids: those of user namespaces, and those of mounts, which a user namespace carries.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};
use oci_spec::runtime::LinuxIdMapping;
use serde::{Deserialize, Serialize};

use super::procfs;
use crate::error::{Context, Error, Faults, Result};
use crate::sys::child::{Which, wait};
use crate::sys::process::{Cloned, clone, exit_now};

/// As many lines as the kernel takes (user_namespaces(7)).
const MOST: usize = 340;

/// One line of an id map: `size` ids from `container` on inside are those from `host` on outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id inside the user namespace.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// The lines of config.json's list at `path`; what of them no map can have goes to `faults`.
pub fn plan(path: &str, list: &[LinuxIdMapping], faults: &mut Faults) -> Vec<IdMapping> {
    let mappings: Vec<IdMapping> = list
        .iter()
        .map(|map| IdMapping { container: map.container_id(), host: map.host_id(), size: map.size() })
        .collect();
    if mappings.len() > MOST {
        faults.add(path, format_args!("{} mappings are more than the kernel's {MOST}", mappings.len()));
    }
    for (index, map) in mappings.iter().enumerate() {
        if map.size == 0 {
            faults.add(format!("{path}[{index}].size"), "0 maps nothing");
        }
        for (field, first) in [("containerID", map.container), ("hostID", map.host)] {
            if first.checked_add(map.size).is_none() {
                faults.add(
                    format!("{path}[{index}].{field}"),
                    format_args!("{first} + {} is more than 4294967295", map.size),
                );
            }
        }
        let overlaps = |a: u32, b: u32, a_size: u32, b_size: u32| {
            u64::from(a) < u64::from(b) + u64::from(b_size) && u64::from(b) < u64::from(a) + u64::from(a_size)
        };
        for (other, earlier) in mappings[..index].iter().enumerate() {
            if overlaps(map.container, earlier.container, map.size, earlier.size) {
                faults.add(
                    format!("{path}[{index}].containerID"),
                    format_args!("{} overlaps mapping {other}", map.container),
                );
            } else if overlaps(map.host, earlier.host, map.size, earlier.size) {
                faults.add(format!("{path}[{index}].hostID"), format_args!("{} overlaps mapping {other}", map.host));
            }
        }
    }
    mappings
}

/// Whether `id` inside is somebody outside.
pub fn maps(mappings: &[IdMapping], id: u32) -> bool {
    mappings.iter().any(|map| id >= map.container && id - map.container < map.size)
}

/// Writes the maps of the new user namespace that process `pid` is in, with the privileges over their ids that this process
/// has. `proc` is the host's procfs.
///
/// # Errors
/// Names the file and the kernel's refusal.
pub fn write(uids: &[IdMapping], gids: &[IdMapping], pid: i32, proc: BorrowedFd) -> Result<()> {
    write_map("uid_map", uids, pid, proc)?;
    write_map("gid_map", gids, pid, proc)
}

/// Writes one of the two maps.
pub(super) fn write_map(file: &str, mappings: &[IdMapping], pid: i32, proc: BorrowedFd) -> Result<()> {
    let path = format!("{pid}/{file}");
    let text: String = mappings.iter().map(|map| format!("{} {} {}\n", map.container, map.host, map.size)).collect();
    procfs::write(proc, &path, &text).map_err(|error| {
        let error = if error.errno() == Some(libc::EPERM) { of_own_map(error, file, mappings, proc) } else { error };
        error.context(format!("write /proc/{path}"))
    })
}

/// Says which ids outside are nobody in the user namespace that this process is in, if that is why they cannot be mapped.
fn of_own_map(error: Error, file: &str, mappings: &[IdMapping], proc: BorrowedFd) -> Error {
    let Ok(own) = procfs::read(proc, &format!("self/{file}")) else {
        return error;
    };
    let own = parse(&own);
    let missing = mappings.iter().find(|map| {
        // Every id has to be somebody; the map of a namespace is mostly a line or two.
        let mut next = u64::from(map.host);
        let end = next + u64::from(map.size);
        while next < end {
            let line = own.iter().find(|own| maps(&[**own], next as u32));
            match line {
                Some(line) => next = u64::from(line.container) + u64::from(line.size),
                None => return true,
            }
        }
        false
    });
    match missing {
        Some(map) => error.context(format!(
            "{}+{} are not all mapped in the user namespace that procrt is in (/proc/self/{file})",
            map.host, map.size
        )),
        None => error,
    }
}

/// The lines of a map of the kernel's (user_namespaces(7)); what is none is left out.
fn parse(text: &str) -> Vec<IdMapping> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
        Some(IdMapping { container: numbers.next()??, host: numbers.next()??, size: numbers.next()?? })
    };
    text.lines().filter_map(line).collect()
}

/// A handle on the user namespace of the process `pid`. `proc` is the host's procfs.
///
/// # Errors
/// As openat2(2).
pub fn namespace_of(pid: i32, proc: BorrowedFd) -> Result<OwnedFd> {
    let path = format!("{pid}/ns/user");
    procfs::open(proc, &path, OFlag::O_RDONLY).context(|| format!("open /proc/{path}"))
}

/// A user namespace with these maps and nobody in it: what maps a mount (mount_setattr(2), "ID-mapped mounts"). A child of
/// this process is in it for as long as it takes to write the maps.
///
/// # Errors
/// As clone3(2), and the kernel's refusal of a map.
pub fn namespace(uids: &[IdMapping], gids: &[IdMapping], proc: BorrowedFd) -> Result<OwnedFd> {
    let what = || "make a user namespace for the ids of a mount";
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context(what)?;
    match clone(libc::CLONE_NEWUSER as u64, None, false).context(what)? {
        Cloned::Child => {
            // Its own copy of the other end goes first: the end of the pipe is the parent's then, also by its death.
            drop(writer);
            while read(&reader, &mut [0]) == Err(Errno::EINTR) {}
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let made = write(uids, gids, pid, proc).and_then(|()| namespace_of(pid, proc));
            drop((reader, writer));
            while let Err(Errno::EINTR) = wait(Which::Pidfd(pidfd.as_fd()), true).map(|_| ()) {}
            made
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_namespace_is_another_than_this_processes_and_leaves_no_child() {
        let proc = procfs::handle().unwrap();
        let map = [IdMapping { container: 0, host: 100_000, size: 10 }];
        let namespace = namespace(&map, &map, proc.as_fd()).unwrap();
        let stat = nix::sys::stat::fstat(&namespace).unwrap();
        assert_ne!(stat.st_ino, std::fs::metadata("/proc/self/ns/user").unwrap().ino());
    }

    #[test]
    fn what_the_kernel_refuses_of_a_map_is_told() {
        let proc = procfs::handle().unwrap();
        let map = [IdMapping { container: 0, host: 0, size: 0 }];
        let error = namespace(&map, &map, proc.as_fd()).unwrap_err().to_string();
        assert!(error.contains("uid_map: invalid argument"), "{error}");
    }
}
