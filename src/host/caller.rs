//! Who called procrt: root, with privileges over the host, or a plain user, who has them only over what is in user
//! namespaces of its own (user_namespaces(7)).

use nix::sys::stat::stat;

use crate::error::{Context, Result};
use crate::sys::process;

/// The inode of the user namespace that the kernel begins with (linux/nsfs.h, `USER_NS_INIT_INO`).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// A capability by its number (capabilities(7)).
pub mod capability {
    #![allow(missing_docs)] // the kernel's names
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SYS_ADMIN: u32 = 21;
}

/// Who this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
    /// Its effective capabilities, bit N for capability number N.
    capabilities: u64,
}

impl Caller {
    /// Root, with all privileges.
    pub const ROOT: Self = Self { uid: 0, gid: 0, capabilities: u64::MAX };

    /// A user of these ids without any.
    pub const fn plain(uid: u32, gid: u32) -> Self {
        Self { uid, gid, capabilities: 0 }
    }

    /// Looks. Root is taken to have all privileges, over its own user namespace, without a system call: what it lacks it is
    /// refused by the kernel.
    ///
    /// # Errors
    /// As capget(2).
    pub fn find() -> Result<Self> {
        let (uid, gid) = process::ids_at_start();
        if uid == 0 {
            return Ok(Self { gid, ..Self::ROOT });
        }
        let capabilities = process::capabilities().context(|| "read the capabilities")?.effective;
        Ok(Self { uid, gid, capabilities })
    }

    /// Whether this process, root too, has not this capability.
    ///
    /// # Errors
    /// As capget(2).
    pub fn lacks(capability: u32) -> Result<bool> {
        let capabilities = process::capabilities().context(|| "read the capabilities")?;
        Ok(capabilities.effective & 1 << capability == 0)
    }

    /// Whether it has this capability.
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities & 1 << capability != 0
    }

    /// Whether it has no capability at all.
    pub fn has_none(&self) -> bool {
        self.capabilities == 0
    }

    /// Whether it is a plain user, who can mount, join and make nothing but in a user namespace of its own.
    pub fn is_plain(&self) -> bool {
        !self.has(capability::SYS_ADMIN)
    }
}

/// Whether this process is in the user namespace that the machine began with: root there is root of the host.
///
/// # Errors
/// As stat(2).
pub fn in_initial_user_namespace() -> Result<bool> {
    let own = stat("/proc/self/ns/user").context(|| "look at /proc/self/ns/user")?;
    Ok(own.st_ino == INITIAL_USER_NAMESPACE)
}

/// Whether nobody whom this process makes can make a device: a plain user, or somebody in a user namespace. What control
/// groups hold back of devices is then held back without them, but for those that are bound into a root.
pub fn makes_no_devices() -> bool {
    Caller::find().is_ok_and(|caller| caller.is_plain()) || in_initial_user_namespace().is_ok_and(|initial| !initial)
}
