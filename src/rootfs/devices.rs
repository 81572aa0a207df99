//! Device nodes and the links that programs expect in /dev.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::apply::Root;
use super::inside::{Leaf, stat_at};
use super::{Device, Switch};
use crate::error::{Context, Error, Result};
use crate::host::caller::in_initial_user_namespace;
use crate::sys::mount::{OPEN_TREE_CLONE, c_string, move_mount, open_tree};

/// The links of config-linux.md, "Default Devices": path below /dev, and target.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

impl Device {
    fn number(&self) -> libc::dev_t {
        libc::makedev(self.major as u32, self.minor as u32)
    }

    /// Whether that is the status of this very device.
    fn is(&self, stat: &FileStat) -> bool {
        let same_number = self.kind == libc::S_IFIFO || stat.st_rdev == self.number();
        stat.st_mode & libc::S_IFMT == self.kind && same_number
    }
}

impl Root<'_> {
    /// Makes the device nodes and the default links. The caller's umask must be 0.
    ///
    /// # Errors
    /// Names the device.
    pub fn make_devices(&self) -> Result<()> {
        if !self.plan.own_dev {
            return Ok(());
        }
        let dev = self.inside().open_or_make(Path::new("/dev"), Leaf::Directory)?;
        for device in &self.plan.devices {
            let what = || format!("make the device {:?}", device.path.display().to_string());
            let elsewhere: OwnedFd;
            let (parent, name) = match device.path.parent() {
                Some(parent) if parent == Path::new("/dev") => {
                    (dev.as_fd(), device.path.file_name().unwrap_or_default())
                }
                _ => {
                    elsewhere = self.inside().parent(&device.path)?.0;
                    (elsewhere.as_fd(), device.path.file_name().unwrap_or_default())
                }
            };
            if self.plan.bind_devices && device.kind != libc::S_IFIFO {
                self.bind_device(device).context(what)?;
            } else {
                match make_node(parent, name, device) {
                    // In a user namespace that is not the container's own it is the same.
                    Err(error) if self.is_bound(device, &error) => self.bind_device(device).context(what)?,
                    made => made.context(what)?,
                }
            }
        }
        for (name, target) in LINKS {
            make_link(dev.as_fd(), name, target, false).context(|| format!("link \"/dev/{name}\""))?;
        }
        // The multiplexer of the container's own devpts, not the host's.
        make_link(dev.as_fd(), "ptmx", "pts/ptmx", true).context(|| "link \"/dev/ptmx\"")
    }

    fn is_bound(&self, device: &Device, refused: &Error) -> bool {
        refused.errno() == Some(libc::EPERM)
            && device.kind != libc::S_IFIFO
            && self.plan.switch != Switch::Chroot
            && in_initial_user_namespace().is_ok_and(|initial| !initial)
    }

    /// Puts the host's device of the same path into the root.
    fn bind_device(&self, device: &Device) -> Result<()> {
        let path = c_string(device.path.as_os_str().as_encoded_bytes())?;
        let tree = open_tree(AT_FDCWD.as_raw_fd(), &path, OPEN_TREE_CLONE).context(|| "bind the host's")?;
        if !device.is(&fstat(&tree)?) {
            return Err(Error::config("the host has something else there to be bound, which a user namespace takes"));
        }
        let place = self.inside().open_or_make(&device.path, Leaf::File)?;
        Ok(move_mount(tree, place)?)
    }
}

fn make_node(parent: BorrowedFd, name: &OsStr, device: &Device) -> Result<()> {
    let kind = SFlag::from_bits_retain(device.kind);
    match mknodat(parent, name, kind, Mode::from_bits_retain(device.mode), device.number()) {
        Ok(()) => {
            if (device.uid, device.gid) != (0, 0) {
                let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
                fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            Ok(())
        }
        Err(Errno::EEXIST) => {
            // The image has it already: right if it is the same device, else a trap.
            if device.is(&stat_at(parent, name)?) {
                Ok(())
            } else {
                Err(Error::config("the root has something else there"))
            }
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Links `name` to `target`; what is there stays, unless it is to be replaced.
fn make_link(dev: BorrowedFd, name: &str, target: &str, replace: bool) -> Result<()> {
    match symlinkat(target, dev, name) {
        Err(Errno::EEXIST) if replace => {
            if readlinkat(dev, name).is_ok_and(|there| there == OsStr::new(target)) {
                return Ok(());
            }
            unlinkat(dev, name, UnlinkatFlags::NoRemoveDir)?;
            Ok(symlinkat(target, dev, name)?)
        }
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a directory handle for reading its entries.
pub(super) fn list_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}
