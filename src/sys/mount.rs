//! The mount API of Linux 5.2 and 5.12: file systems and trees of mounts as descriptors, attached by descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// `open_tree(2)`: give a copy of the tree rather than a handle on the tree itself.
pub const OPEN_TREE_CLONE: u32 = 1;
/// `AT_RECURSIVE`: with everything mounted below.
pub const AT_RECURSIVE: u32 = 0x8000;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSCONFIG_CMD_RECONFIGURE: u32 = 7;

/// The attributes of one mount, as `mount_setattr(2)` and `fsmount(2)` take them (`MOUNT_ATTR_*` of linux/mount.h).
pub mod attr {
    #![allow(missing_docs)] // the kernel's names
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    pub const ATIME: u64 = 0x70;
    pub const RELATIME: u64 = 0x0;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
    pub const IDMAP: u64 = 0x10_0000;
}

/// `struct mount_attr` of linux/mount.h, version 0 (32 bytes).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear first.
    pub clear: u64,
    /// The propagation type (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`), or 0.
    pub propagation: u64,
    /// A user namespace's descriptor, with [`attr::IDMAP`].
    pub userns_fd: u64,
}

/// Opens the tree of mounts at `path` below `dir` (`path` empty: `dir` itself), as a copy with `OPEN_TREE_CLONE` in `flags`.
///
/// # Errors
/// As open_tree(2).
pub fn open_tree(dir: RawFd, path: &CStr, flags: u32) -> Result<OwnedFd, Errno> {
    let empty = if path.is_empty() { libc::AT_EMPTY_PATH as u32 } else { 0 };
    // SAFETY: `path` is a C string that outlives the call; the kernel reads nothing else.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags | OPEN_TREE_CLOEXEC | empty) })?;
    // SAFETY: the call gave a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attaches the detached mount `from` on the place that `to` refers to.
///
/// # Errors
/// As move_mount(2).
pub fn move_mount(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    // SAFETY: both paths are empty C strings; the descriptors are borrowed for the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_fd().as_raw_fd(),
            c"".as_ptr(),
            to.as_fd().as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// Changes attributes and propagation of the mount that `mount` refers to, and of all below it with `recursive`.
///
/// # Errors
/// As mount_setattr(2); `EPERM` for attributes that are locked.
pub fn mount_setattr(mount: impl AsFd, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH as u32 | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` points to a structure of exactly the size that is named.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            std::mem::size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// A file system that is being configured (`fsopen(2)`).
#[derive(Debug)]
pub struct FileSystem(OwnedFd);

impl FileSystem {
    /// Begins a file system of type `name`.
    ///
    /// # Errors
    /// `ENODEV` if the kernel does not know the type, else as fsopen(2).
    pub fn open(name: &CStr) -> Result<Self, Errno> {
        // SAFETY: `name` is a C string that outlives the call.
        let fd = check(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })?;
        // SAFETY: the call gave a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    fn config(&self, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> Result<(), Errno> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: both pointers are null or C strings that outlive the call.
        check(unsafe {
            libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, pointer(key), pointer(value), 0)
        })?;
        Ok(())
    }

    /// Sets a parameter, `key` alone or `key=value`.
    ///
    /// # Errors
    /// `EINVAL` if the file system does not know it; [`FileSystem::complaint`] may say more.
    pub fn set(&self, key: &CStr, value: Option<&CStr>) -> Result<(), Errno> {
        self.config(if value.is_some() { FSCONFIG_SET_STRING } else { FSCONFIG_SET_FLAG }, Some(key), value)
    }

    /// Makes the superblock.
    ///
    /// # Errors
    /// As fsconfig(2) with `FSCONFIG_CMD_CREATE`.
    pub fn create(&self) -> Result<(), Errno> {
        self.config(FSCONFIG_CMD_CREATE, None, None)
    }

    /// Applies the parameters to the existing superblock of a descriptor from [`FileSystem::pick`].
    ///
    /// # Errors
    /// As fsconfig(2) with `FSCONFIG_CMD_RECONFIGURE`.
    pub fn reconfigure(&self) -> Result<(), Errno> {
        self.config(FSCONFIG_CMD_RECONFIGURE, None, None)
    }

    /// The file system that is mounted at `mount`, to be reconfigured (`fspick(2)`).
    ///
    /// # Errors
    /// As fspick(2).
    pub fn pick(mount: impl AsFd) -> Result<Self, Errno> {
        const FSPICK_CLOEXEC: u32 = 1;
        const FSPICK_EMPTY_PATH: u32 = 8;
        let fd = mount.as_fd().as_raw_fd();
        // SAFETY: the path is an empty C string; the descriptor is borrowed for the call.
        let fd =
            check(unsafe { libc::syscall(libc::SYS_fspick, fd, c"".as_ptr(), FSPICK_CLOEXEC | FSPICK_EMPTY_PATH) })?;
        // SAFETY: the call gave a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// A detached mount of the created superblock with `MOUNT_ATTR_*` attributes.
    ///
    /// # Errors
    /// As fsmount(2).
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd, Errno> {
        // SAFETY: integers only.
        let fd =
            check(unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attributes as u32) })?;
        // SAFETY: the call gave a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }

    /// What the file system itself says was wrong, if anything.
    pub fn complaint(&self) -> Option<String> {
        let mut said = Vec::new();
        let mut line = [0_u8; 512];
        while let Ok(length) = nix::unistd::read(&self.0, &mut line) {
            if length == 0 {
                break;
            }
            // Each message is "e text", "w text" or "i text".
            let text = String::from_utf8_lossy(&line[..length]);
            if let Some(error) = text.strip_prefix("e ") {
                said.push(error.trim().to_owned());
            }
        }
        (!said.is_empty()).then(|| said.join(", "))
    }
}

/// Sets an extended attribute of an open file (xattr(7)).
///
/// # Errors
/// As fsetxattr(2).
pub fn set_xattr(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: `name` is a C string and `value` a slice, both of which outlive the call, with the slice's own length.
    check(unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }.into())?;
    Ok(())
}

/// `text` as a C string.
///
/// # Errors
/// `EINVAL` if it holds a NUL byte.
pub fn c_string(text: impl Into<Vec<u8>>) -> Result<CString, Errno> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}
