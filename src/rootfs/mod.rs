//! The container's root: its mounts, devices, masked and read-only paths, and how it becomes `/`.
//!
//! Paths inside the root are hostile. Everything in it is opened by [`inside::Inside`] with `openat2` and used through
//! its descriptor.

mod apply;
mod copy_up;
mod describe;
mod devices;
mod fresh;
mod id_map;
mod inside;
mod label;
mod mounts;
pub mod options;
mod plan;

use std::path::PathBuf;

use serde::Serialize;

pub use apply::{Root, Sources, open_ptmx};
pub use fresh::Fresh;
pub use id_map::{IdMap, Ids};
pub use inside::{Inside, Leaf};
pub use plan::{DEFAULT_DEVICES, Surroundings, plan};

use options::Attributes;

/// How the prepared root becomes the process's `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// `pivot_root(2)`, and the old root is unmounted.
    Pivot,
    /// The root is moved over `/`, and chroot(2): for hosts that run from a ramdisk (`--no-pivot`).
    Move,
    /// chroot(2) alone, in a mount namespace that is not the container's.
    Chroot,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MountPlan {
    /// Its place in `mounts`.
    pub index: usize,
    /// Where it goes, absolute, inside the root.
    pub destination: PathBuf,
    /// What it is.
    pub what: What,
    /// How its ids are mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_map: Option<IdMap>,
    /// Attributes for the mount itself.
    pub attributes: Attributes,
    /// Attributes for the mount and all below it.
    pub recursive: Attributes,
    /// Propagation types to set, in order; `true`: for all below it too.
    pub propagation: Vec<(u64, bool)>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A copy of an existing mount.
    Bind {
        /// The path on the host.
        source: PathBuf,
        /// With everything mounted below it.
        recursive: bool,
    },
    /// A new file system.
    FileSystem {
        /// Its type.
        name: String,
        /// Its source parameter.
        source: String,
        /// Its other parameters.
        data: Vec<(String, Option<String>)>,
        /// Filled with what the root has at the destination (`tmpcopyup`).
        copy_up: bool,
        /// Where the host has it: it shows what the container shares with the host, and so is bound from there where the
        /// root of a user namespace may not mount it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hosts: Option<&'static str>,
    },
    /// The container's control groups, each bound at a name below the destination; the one with an empty name is the
    /// destination itself.
    Cgroups {
        /// Names below the destination with the host's directories.
        binds: Vec<(String, PathBuf)>,
        /// Symbolic links below the destination: name and target.
        links: Vec<(String, String)>,
    },
    /// A directory of the host's, where what is written goes to memory and is gone with the container.
    Overlay {
        /// The directory on the host.
        lower: PathBuf,
        /// The parameters of the tmpfs that is written to.
        data: Vec<(String, Option<String>)>,
    },
    /// Other attributes for a mount that is already there.
    Remount,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Where, absolute, inside the root.
    pub path: PathBuf,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub kind: u32,
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Everything about a container's root.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RootfsPlan {
    /// The root file system's directory on the host, absolute.
    pub root: PathBuf,
    /// Instead of that, a root that is made in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh: Option<Fresh>,
    /// How it becomes `/`.
    pub switch: Switch,
    /// It is read-only once it is `/`.
    pub readonly: bool,
    /// The propagation type of the host's mounts in the new mount namespace while the root is made.
    pub propagation: (u64, bool),
    /// The propagation type of the finished root, where `linux.rootfsPropagation` asks for one that outlives the making.
    pub final_propagation: Option<(u64, bool)>,
    /// The mounts, in order.
    pub mounts: Vec<MountPlan>,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Devices are bound from the host's: mknod(2) is not allowed in a user namespace.
    pub bind_devices: bool,
    /// The default devices and links in /dev are made: it is not a bind mount of somebody's.
    pub own_dev: bool,
    /// A terminal goes on /dev/console.
    pub console: bool,
    /// Paths that are hidden.
    pub masked: Vec<PathBuf>,
    /// Paths that are read-only.
    pub readonly_paths: Vec<PathBuf>,
    /// The SELinux label of the file systems that are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// The working directory, made where it is missing.
    pub cwd: PathBuf,
}
