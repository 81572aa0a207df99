//! Who writes the maps of a user namespace: this process, if the kernel lets it (user_namespaces(7), "Defining user and group
//! ID mappings"), or newuidmap(1) and newgidmap(1), which know the ranges that are a user's to give away (subuid(5)).

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, Gid, Uid, access, pipe2, setresgid, setresuid};

use super::caller::{Caller, capability};
use super::id_mapping::{self, IdMapping};
use super::procfs;
use crate::error::{Context, Error, Result};
use crate::sys::child::{Ending, Program, Which, spawn, wait};
use crate::sys::mount::c_string;
use crate::sys::process::{Cloned, clone, exit_now};

/// How the two maps are written.
#[derive(Debug)]
pub struct Writers {
    uids: Way,
    gids: Way,
}

#[derive(Debug)]
enum Way {
    /// By this process, which has the privilege.
    Directly,
    /// By this process, without the privilege: its own id and no other. For groups, setgroups(2) has to be denied first.
    OwnId,
    /// By this program.
    Helper(PathBuf),
}

/// One of the two maps.
struct Kind {
    file: &'static str,
    field: &'static str,
    helper: &'static str,
    ranges: &'static str,
}

const UIDS: Kind = Kind { file: "uid_map", field: "linux.uidMappings", helper: "newuidmap", ranges: "/etc/subuid" };
const GIDS: Kind = Kind { file: "gid_map", field: "linux.gidMappings", helper: "newgidmap", ranges: "/etc/subgid" };

fn is_own_id(mappings: &[IdMapping], own: u32) -> bool {
    matches!(mappings, [map] if map.size == 1 && map.host == own)
}

/// Whether setgroups(2) will be denied in a user namespace of `caller`'s with this map of groups.
pub fn denies_groups(gids: &[IdMapping], caller: &Caller) -> bool {
    !caller.has(capability::SETGID) && is_own_id(gids, caller.gid)
}

impl Writers {
    /// Decides who writes the maps, and looks for the programs that it takes.
    ///
    /// # Errors
    /// If one is not there: names it and Debian's package of it.
    pub fn find(uids: &[IdMapping], gids: &[IdMapping], caller: &Caller) -> Result<Self> {
        Ok(Self {
            uids: way(&UIDS, caller.has(capability::SETUID), is_own_id(uids, caller.uid))?,
            gids: way(&GIDS, caller.has(capability::SETGID), is_own_id(gids, caller.gid))?,
        })
    }

    /// Writes the maps of the new user namespace that process `pid`, a child, is in. `proc` is the host's procfs.
    ///
    /// # Errors
    /// Names the map, and the kernel's refusal or what the program says.
    pub fn write(&self, uids: &[IdMapping], gids: &[IdMapping], pid: i32, proc: BorrowedFd) -> Result<()> {
        let mut running = Vec::new();
        let mut written = Ok(());
        for (kind, way, mappings) in [(&UIDS, &self.uids, uids), (&GIDS, &self.gids, gids)] {
            written = written.and_then(|()| match way {
                Way::Directly => id_mapping::write_map(kind.file, mappings, pid, proc),
                Way::OwnId => {
                    if kind.file == GIDS.file {
                        let path = format!("{pid}/setgroups");
                        procfs::write(proc, &path, "deny").context(|| format!("write /proc/{path}"))?;
                    }
                    id_mapping::write_map(kind.file, mappings, pid, proc)
                }
                Way::Helper(program) => {
                    running.push((kind, Helper::start(kind, program, mappings, pid)?));
                    Ok(())
                }
            });
        }
        // Both run at the same time; each is waited for, whatever becomes of the other.
        for (kind, helper) in running {
            let ended = helper.finish(kind);
            written = written.and(ended);
        }
        written
    }
}

/// Has a child do something as root of a new user namespace with these maps, in which it has privileges over what belongs to
/// the ids that are mapped; answers when it is done. `act` is to see to it that what it leaves undone is found out.
///
/// # Errors
/// As [`Writers::find`] and [`Writers::write`], and clone3(2)'s.
pub fn within(uids: &[IdMapping], gids: &[IdMapping], act: impl FnOnce()) -> Result<()> {
    let what = || "make a user namespace with the container's ids";
    let writers = Writers::find(uids, gids, &Caller::find()?)?;
    let proc = procfs::handle()?;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context(what)?;
    match clone(libc::CLONE_NEWUSER as u64, None, false).context(what)? {
        Cloned::Child => {
            // A byte says that the ids are mapped, and the end that they are not.
            drop(writer);
            if nix::unistd::read(&reader, &mut [0]) == Ok(1) {
                let root = setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))
                    .and_then(|()| setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)));
                if root.is_ok() {
                    act();
                }
            }
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let written = writers.write(uids, gids, pid, proc.as_fd());
            if written.is_ok() {
                // One that is gone has done nothing, which is found out.
                let _ = nix::unistd::write(&writer, b"1");
            }
            drop((reader, writer));
            let ended = wait(Which::Pidfd(pidfd.as_fd()), true).context(what);
            written.and(ended.map(drop))
        }
    }
}

fn way(kind: &Kind, privileged: bool, own: bool) -> Result<Way> {
    if privileged {
        return Ok(Way::Directly);
    }
    if own {
        return Ok(Way::OwnId);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = path
        .as_bytes()
        .split(|byte| *byte == b':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| PathBuf::from(OsStr::from_bytes(dir)).join(kind.helper))
        .find(|program| program.is_absolute() && access(program, AccessFlags::X_OK).is_ok());
    found.map(Way::Helper).ok_or_else(|| {
        Error::unsupported(format!(
            "{}: to map more than its own id, a plain user takes {}, which is not in PATH (Debian's package uidmap), and \
             a range in {}",
            kind.field, kind.helper, kind.ranges
        ))
    })
}

/// A program at work.
struct Helper {
    pid: i32,
    said: File,
}

impl Helper {
    fn start(kind: &Kind, program: &std::path::Path, mappings: &[IdMapping], pid: i32) -> Result<Self> {
        let what = || format!("{}: run {}", kind.field, kind.helper);
        let numbers = mappings.iter().flat_map(|map| [map.container, map.host, map.size]).map(|id| id.to_string());
        let words = [kind.helper.to_owned(), pid.to_string()].into_iter().chain(numbers);
        let args: Vec<CString> = words.map(|word| c_string(word).context(what)).collect::<Result<_>>()?;
        let path = c_string(program.as_os_str().as_bytes()).context(what)?;
        let null = File::options().read(true).write(true).open("/dev/null").context(what)?;
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context(what)?;
        let stdio = [null.as_fd(), null.as_fd(), writer.as_fd()];
        let pid = spawn(&Program { path: &path, args: &args, env: &[], cwd: None, stdio }).context(what)?;
        Ok(Self { pid, said: reader.into() })
    }

    fn finish(mut self, kind: &Kind) -> Result<()> {
        let mut said = Vec::new();
        let read = self.said.read_to_end(&mut said);
        let ending = wait(Which::Pid(self.pid), true).context(|| format!("wait for {}", kind.helper))?;
        read.context(|| format!("hear from {}", kind.helper))?;
        if matches!(ending, Some((_, Ending::Exited(0)))) {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said);
        let said = said.lines().next().filter(|line| !line.is_empty()).unwrap_or("it failed");
        Err(Error::system(format!(
            "{}: {said} (the ranges that are a user's to map are in {})",
            kind.field, kind.ranges
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_user_maps_its_own_id_by_itself_and_others_by_a_program() {
        let map = |host, size| vec![IdMapping { container: 0, host, size }];
        let plain = Caller::plain(1000, 100);
        assert!(denies_groups(&map(100, 1), &plain));
        assert!(!denies_groups(&map(100, 2), &plain));
        assert!(!denies_groups(&map(0, 1), &Caller::ROOT));
        let own = Writers::find(&map(1000, 1), &map(100, 1), &plain).unwrap();
        assert!(matches!((own.uids, own.gids), (Way::OwnId, Way::OwnId)));
        let root = Writers::find(&map(1000, 9), &map(100, 9), &Caller::ROOT).unwrap();
        assert!(matches!((root.uids, root.gids), (Way::Directly, Way::Directly)));
    }
}
