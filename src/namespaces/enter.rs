//! Getting into namespaces: those joined by path, and what has to be done in new ones.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::stat::{Mode, fstat, stat};
use nix::unistd::{Gid, Uid, chroot, fchdir, setresgid, setresuid};

use super::{Namespace, NamespacesPlan};
use crate::error::{Context, Error, Result};
use crate::host::procfs;
use crate::sys;
use crate::sys::aside::aside;

/// The namespaces that are joined, open. Opened on the host's side, before anything is made, so that a path that is
/// wrong is found there.
#[derive(Debug, Default)]
pub struct Handles(Vec<(Namespace, OwnedFd)>);

impl Handles {
    /// Opens each namespace that `plan` joins and sees to it that it is of the kind that it should be.
    ///
    /// # Errors
    /// Names the path's place in config.json.
    pub fn open(plan: &NamespacesPlan) -> Result<Self> {
        let mut handles = Vec::with_capacity(plan.join.len());
        for join in &plan.join {
            let at = || format!("linux.namespaces[{}].path: {:?}", join.index, join.path.display().to_string());
            // What is no namespace may be a FIFO, which opening would wait for, or a terminal.
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            let fd = open(&join.path, flags, Mode::empty()).context(at)?;
            match sys::process::namespace_kind(&fd) {
                Ok(flag) if flag == join.kind.flag() => {
                    if let Some(field) = plan.changes(join.kind).filter(|_| is_own(join.kind, &fd)) {
                        let at = at();
                        return Err(Error::config(format!(
                            "{at} is procrt's own namespace, which {field} would change"
                        )));
                    }
                    handles.push((join.kind, fd));
                }
                Ok(_) => return Err(Error::config(format!("{} is not a {} namespace", at(), join.kind.name()))),
                Err(_) => return Err(Error::config(format!("{} is not a namespace", at()))),
            }
        }
        Ok(Self(handles))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, fd)| fd.as_fd())
    }

    /// Joins those that this process may join with the privileges that it has, before it gives them up for those of a user
    /// namespace that need not own them. The others are left to be joined with those; and the mount namespace, since the
    /// host's files are needed until then.
    ///
    /// # Errors
    /// Names the kind that could not be joined for another reason.
    pub fn join_early(&mut self) -> Result<()> {
        let mut later = Vec::new();
        for (kind, fd) in std::mem::take(&mut self.0) {
            let left = matches!(kind, Namespace::User | Namespace::Pid | Namespace::Mount);
            match if left { Err(Errno::EPERM) } else { join_one(kind, &fd) } {
                Ok(()) => {}
                Err(Errno::EPERM) => later.push((kind, fd)),
                Err(errno) => return Err(errno).context(|| format!("join the {} namespace", kind.name())),
            }
        }
        self.0 = later;
        Ok(())
    }

    /// The open namespace of `kind`, if one is joined.
    pub fn get(&self, kind: Namespace) -> Option<BorrowedFd<'_>> {
        self.0.iter().find(|(joined, _)| *joined == kind).map(|(_, fd)| fd.as_fd())
    }
}

/// Whether `namespace` is the one of its kind that this process is in.
fn is_own(kind: Namespace, namespace: &OwnedFd) -> bool {
    let own = stat(format!("/proc/self/ns/{}", kind.file()).as_str());
    matches!((own, fstat(namespace)), (Ok(own), Ok(it)) if (own.st_dev, own.st_ino) == (it.st_dev, it.st_ino))
}

/// Joins every open namespace but those that are not joined here: a PID namespace only takes children (the parent sees
/// to it), and the user namespace is first where there is one.
///
/// # Errors
/// Names the kind that could not be joined.
pub fn join(handles: &Handles, kinds: impl Fn(Namespace) -> bool) -> Result<()> {
    for (kind, fd) in handles.0.iter().filter(|(kind, _)| kinds(*kind)) {
        join_one(*kind, fd).context(|| format!("join the {} namespace", kind.name()))?;
    }
    Ok(())
}

fn join_one(kind: Namespace, fd: &OwnedFd) -> std::result::Result<(), Errno> {
    setns(fd, CloneFlags::from_bits_retain(kind.flag() as i32))
}

/// Joins the namespaces of `kinds` that the process behind `process`, a pidfd, is in, all in one call (Linux 5.8); but not
/// its PID namespace, which [`ChildrenElsewhere`] is for.
///
/// # Errors
/// `ESRCH` if the process has ended; `EPERM` without the privilege over one of them.
pub fn join_those_of(process: BorrowedFd, kinds: &[Namespace]) -> Result<()> {
    let those = kinds.iter().filter(|kind| **kind != Namespace::Pid);
    let flags = those.fold(0, |flags, kind| flags | kind.flag());
    if flags == 0 {
        return Ok(());
    }
    setns(process, CloneFlags::from_bits_retain(flags as i32)).context(|| "join the container's namespaces")
}

/// Has this process's children born from now on in the PID namespace that `namespace` refers to, or that the process behind
/// it, a pidfd, is in.
///
/// # Errors
/// As setns(2).
pub fn join_for_children(namespace: BorrowedFd) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWPID).context(|| "join the pid namespace")
}

/// Does something in the mount namespace of the process `pid`, as this process with its privileges, and below that process's
/// root; what is opened there is open here. `proc` is the host's procfs. `act` must not panic.
///
/// # Errors
/// As setns(2), and `act`'s.
pub fn in_mount_namespace_of<T>(pid: i32, proc: BorrowedFd, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let what = || "enter the container's mount namespace";
    let namespace = procfs::open(proc, &format!("{pid}/ns/mnt"), OFlag::O_RDONLY).context(what)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat(proc, format!("{pid}/root").as_str(), flags, Mode::empty()).context(what)?;
    aside(|| {
        let enter =
            || setns(&namespace, CloneFlags::CLONE_NEWNS).and_then(|()| fchdir(&root)).and_then(|()| chroot("."));
        enter().context(what)?;
        act()
    })
    .context(what)?
}

/// While it lives, this process's children are born in another PID namespace: joining one takes effect on them alone.
#[derive(Debug)]
pub struct ChildrenElsewhere(OwnedFd);

impl ChildrenElsewhere {
    /// Has children born in the PID namespace that `namespace` refers to, or that the process behind it, a pidfd, is in.
    ///
    /// # Errors
    /// As setns(2); `EPERM` also where this process could not come back, as the root of a user namespace that its PID
    /// namespace does not belong to.
    pub fn begin(namespace: BorrowedFd) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let own = open("/proc/self/ns/pid", flags, Mode::empty()).context(|| "open /proc/self/ns/pid")?;
        join_for_children(own.as_fd())?;
        join_for_children(namespace)?;
        Ok(Self(own))
    }

    /// Has children born in this process's own PID namespace again.
    ///
    /// # Errors
    /// As setns(2).
    pub fn end(self) -> Result<()> {
        setns(self.0, CloneFlags::CLONE_NEWPID).context(|| "return to procrt's own pid namespace")
    }
}

/// Becomes root of the user namespace that this process is in, so that it owns what it makes. Where nobody is root there, it
/// stays who it is.
///
/// # Errors
/// As setresuid(2).
pub fn become_root() -> Result<()> {
    // Groups of the host mean nothing inside; where setgroups is denied they cannot be dropped and have no name inside.
    let _ = sys::process::set_groups(&[]);
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    let unless_unmapped = |answer| if answer == Err(Errno::EINVAL) { Ok(()) } else { answer };
    unless_unmapped(setresgid(gid, gid, gid)).context(|| "become group 0 of the user namespace")?;
    unless_unmapped(setresuid(uid, uid, uid)).context(|| "become user 0 of the user namespace")
}

/// Makes the time namespace, shifts its clocks and enters it: it takes offsets only while it is empty.
///
/// # Errors
/// `EPERM`, or `ERANGE` where a clock would be before zero.
pub fn enter_time(plan: &NamespacesPlan, proc: BorrowedFd) -> Result<()> {
    let flag = CloneFlags::from_bits_retain(Namespace::Time.flag() as i32);
    unshare(flag).context(|| "make a time namespace")?;
    if !plan.time_offsets.is_empty() {
        let text: String =
            plan.time_offsets.iter().map(|(clock, secs, nanos)| format!("{clock} {secs} {nanos}\n")).collect();
        write_offsets(proc, &text).context(|| "shift the clocks of the time namespace")?;
    }
    let namespace =
        procfs::open(proc, "self/ns/time_for_children", OFlag::O_RDONLY).context(|| "open the new time namespace")?;
    setns(namespace, flag).context(|| "enter the new time namespace")
}

/// A process that has become another user is not the owner of its own files in procfs, unless it may be dumped, and in a
/// user namespace no privilege replaces that.
fn write_offsets(proc: BorrowedFd, text: &str) -> Result<()> {
    match procfs::write(proc, "self/timens_offsets", text) {
        Err(error) if error.errno() == Some(libc::EACCES) => {
            prctl::set_dumpable(true)?;
            let answer = procfs::write(proc, "self/timens_offsets", text);
            prctl::set_dumpable(false)?;
            answer
        }
        answer => answer,
    }
}

/// Brings up `lo` in a new network namespace.
///
/// # Errors
/// As netdevice(7).
pub fn bring_up_loopback() -> Result<()> {
    sys::process::bring_up_loopback().context(|| "bring up the loopback interface")
}
