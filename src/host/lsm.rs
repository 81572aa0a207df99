//! Security modules of this kernel.

use std::path::Path;

/// Whether AppArmor confines programs here.
pub fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Whether SELinux labels processes here.
pub fn selinux_enabled() -> bool {
    Path::new("/sys/fs/selinux/status").exists()
}
