//! procrt's own program file, out of a container's reach.
//!
//! A process inside a container can come upon the program that made it, as `/proc/PID/exe` of the process that is about
//! to become the container's, or by being it (an image whose program is a link to `/proc/self/exe`). Root in a container
//! without a user namespace could then open the file for writing once nobody runs it. So procrt runs from a read-only
//! mount of its file that is attached nowhere: nothing inside can make that writable, and `/proc/PID/exe` leads to no
//! other. It costs one more execve and no copy. Where nobody in a container could write to the file, nothing has to be done.

use std::ffi::CString;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD,
    FcntlArg::{F_ADD_SEALS, F_GET_SEALS},
    OFlag, SealFlag, fcntl, open,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::{Context, Result};
use crate::host::caller::Caller;
use crate::sys::mount::{MountAttr, OPEN_TREE_CLONE, attr, mount_setattr, open_tree};
use crate::sys::process::{StringTable, exec, ids_at_start, set_name};

/// Sees to it that this program runs from a file that nobody can write to: executes it again from one, unless it does
/// already. To be called before a container is made, with one thread.
///
/// # Errors
/// If neither a read-only mount nor a sealed copy can be had.
pub fn seal() -> Result<()> {
    // Whoever makes a process asks again.
    static SEALED: AtomicBool = AtomicBool::new(false);
    if SEALED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let what = || "run from a program file that no container can write to";
    let own = open("/proc/self/exe", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).context(what)?;
    if is_roots_alone(&own) {
        SEALED.store(true, Ordering::Relaxed);
        return Ok(());
    }
    if is_sealed(&own) {
        SEALED.store(true, Ordering::Relaxed);
        // The kernel has named the process after a descriptor.
        let _ = set_name(c"procrt");
        return Ok(());
    }
    // Without CAP_SYS_ADMIN there are no mounts to be had, and none of a file of another mount namespace or of none.
    let copy = read_only_mount().or_else(|_| sealed_copy(own));
    let args = StringTable::new(std::env::args_os().map(|arg| c_string(arg.as_bytes())).collect());
    let env = std::env::vars_os().map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
    Err(exec(copy.context(what)?, &args, &StringTable::new(env.collect()))).context(what)
}

/// A string that came from execve, and so has no NUL byte in it.
fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

/// Whether the file is root's, and nobody else's to write to, and the caller is not and without privileges: then no container
/// of the caller's has the file's owner in it.
fn is_roots_alone(own: &OwnedFd) -> bool {
    ids_at_start().0 != 0
        && fstat(own).is_ok_and(|stat| stat.st_uid == 0 && stat.st_mode & 0o022 == 0)
        && Caller::find().is_ok_and(|caller| caller.has_none())
}

fn is_sealed(own: &OwnedFd) -> bool {
    let on_read_only_mount = fstatvfs(own).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY));
    let seals = || fcntl(own, F_GET_SEALS).map(SealFlag::from_bits_retain);
    on_read_only_mount || seals().is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_WRITE))
}

fn read_only_mount() -> std::result::Result<OwnedFd, Errno> {
    let mount = open_tree(AT_FDCWD.as_raw_fd(), c"/proc/self/exe", OPEN_TREE_CLONE)?;
    mount_setattr(&mount, false, &MountAttr { set: attr::RDONLY, ..MountAttr::default() })?;
    Ok(mount)
}

fn sealed_copy(own: OwnedFd) -> Result<OwnedFd> {
    let mut own = std::fs::File::from(own);
    own.rewind()?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Since Linux 6.3 (memfd_create(2), vm.memfd_noexec) it has to be said that it is to be executed; before, it must not.
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let copy = match memfd_create(c"procrt", flags | executable) {
        Err(Errno::EINVAL) => memfd_create(c"procrt", flags),
        answer => answer,
    };
    let mut copy = std::fs::File::from(copy?);
    std::io::copy(&mut own, &mut copy)?;
    copy.flush()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(copy.as_fd(), F_ADD_SEALS(seals))?;
    Ok(copy.into())
}
