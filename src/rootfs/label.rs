//! `linux.mountLabel`: the SELinux label of the file systems that are made for the container.

use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::apply::Root;
use crate::error::{Context, Result};
use crate::sys::mount::{FileSystem, c_string, set_xattr};

/// File systems that have labels of their own for what is in them.
const LABELLED: [&str; 2] = ["proc", "sysfs"];

/// The file system whose files have labels, and which takes no label for all of them at once.
const BY_ATTRIBUTE: &str = "mqueue";

/// Whether a mount's own options say what its label is (mount(8), `context=`).
pub(super) fn is_own(data: &[(String, Option<String>)]) -> bool {
    data.iter().any(|(key, _)| key == "context")
}

impl Root<'_> {
    /// Has everything in a file system of type `name` labelled, which is configured and not made yet.
    pub(super) fn label(&self, fs: &FileSystem, name: &str) -> Result<()> {
        match &self.plan.mount_label {
            Some(label) if !LABELLED.contains(&name) && name != BY_ATTRIBUTE => {
                let what = || format!("linux.mountLabel: label it {label:?}");
                fs.set(c"context", Some(&c_string(label.as_str())?)).context(what)
            }
            _ => Ok(()),
        }
    }

    /// Labels the root directory of a new file system of type `name`, where that is how it takes a label.
    pub(super) fn label_root(&self, tree: &OwnedFd, name: &str) -> Result<()> {
        match &self.plan.mount_label {
            Some(label) if name == BY_ATTRIBUTE => {
                let what = || format!("linux.mountLabel: label it {label:?}");
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let directory = openat(tree, ".", flags, Mode::empty()).context(what)?;
                set_xattr(directory, c"security.selinux", label.as_bytes()).context(what)
            }
            _ => Ok(()),
        }
    }
}
