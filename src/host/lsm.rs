//! Security modules of this kernel: whether they are at work, and the labels that they know.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::OFlag;

use super::procfs;
use crate::error::{Error, Faults, Result};

/// What becomes of a label whose security module is not at work here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Missing {
    /// It is an error: what the label was to confine would run unconfined.
    #[default]
    Refused,
    /// It is left out, with a warning.
    LeftOut,
}

/// What a label is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// The AppArmor profile of a program.
    AppArmorProfile,
    /// The SELinux label of a process.
    SelinuxProcess,
    /// The SELinux label of what is in a file system.
    SelinuxFiles,
}

/// Whether AppArmor confines programs here.
pub fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Whether SELinux labels processes here: not before it has a policy, when all have the same label and any text is taken
/// for one.
pub fn selinux_enabled() -> bool {
    Path::new("/sys/fs/selinux/status").exists()
        && std::fs::read("/proc/self/attr/current").is_ok_and(|label| !label.starts_with(b"kernel\0"))
}

/// The label that `path` has, if it is not empty, seen to be one that this kernel knows. Nothing is labelled.
pub fn plan(path: &str, value: Option<&str>, kind: Label, missing: Missing, faults: &mut Faults) -> Option<String> {
    let label = value.filter(|label| !label.is_empty())?;
    let (module, enabled) = match kind {
        Label::AppArmorProfile => ("AppArmor", apparmor_enabled()),
        Label::SelinuxProcess | Label::SelinuxFiles => ("SELinux", selinux_enabled()),
    };
    if !enabled {
        let what = format!("{label:?}: this kernel has no {module} at work");
        match missing {
            Missing::Refused => faults.unsupported(path, format_args!("{what} (--missing-lsm warn does without)")),
            Missing::LeftOut => log::warn!("{path}: {what}, and it is left out"),
        }
        return None;
    }
    if label.contains('\0') {
        faults.add(path, format_args!("{label:?} has a NUL byte in it"));
        return None;
    }
    match procfs::handle().and_then(|proc| check(label, kind, proc.as_fd())) {
        Ok(()) => {}
        Err(error) => {
            let why = match (kind, error.errno()) {
                (Label::AppArmorProfile, Some(libc::ENOENT)) => "no profile of that name is loaded",
                (Label::AppArmorProfile, Some(libc::EACCES | libc::EPERM)) => "procrt may not change to that profile",
                (Label::SelinuxProcess | Label::SelinuxFiles, Some(libc::EINVAL)) => {
                    "SELinux's policy knows no such label"
                }
                _ => "it cannot be had",
            };
            faults.add(path, format_args!("{label:?}: {why}: {error}"));
        }
    }
    Some(label.to_owned())
}

/// Asks the module for the label, and leaves this process as it was.
fn check(label: &str, kind: Label, proc: BorrowedFd) -> Result<()> {
    let file = match kind {
        // A change of profile that is only tried (apparmor's command interface; aa_change_profile(2) makes real ones).
        Label::AppArmorProfile => return write_apparmor(proc, "current", &format!("permprofile {label}")),
        Label::SelinuxProcess => "exec",
        // That for new files also takes what the policy does not know, of whoever has CAP_MAC_ADMIN.
        Label::SelinuxFiles => "sockcreate",
    };
    procfs::write(proc, &format!("self/attr/{file}"), label)?;
    clear(proc, file)
}

/// Takes back what was written to SELinux's `attr/FILE` of this process.
///
/// # Errors
/// As write(2).
pub fn clear(proc: BorrowedFd, file: &str) -> Result<()> {
    procfs::write(proc, &format!("self/attr/{file}"), "\0")
}

/// Has AppArmor confine the program that this process executes next by `profile`.
///
/// # Errors
/// `ENOENT` if it is not loaded.
pub fn confine_at_exec(proc: BorrowedFd, profile: &str) -> Result<()> {
    write_apparmor(proc, "exec", &format!("exec {profile}"))
}

/// Writes to AppArmor's own directory of attributes, or where there is none to that of the one module at work.
fn write_apparmor(proc: BorrowedFd, file: &str, text: &str) -> Result<()> {
    let opened = match procfs::open(proc, &format!("self/attr/apparmor/{file}"), OFlag::O_WRONLY) {
        Err(error) if error.errno() == Some(libc::ENOENT) => {
            procfs::open(proc, &format!("self/attr/{file}"), OFlag::O_WRONLY)
        }
        answer => answer,
    };
    nix::unistd::write(opened?, text.as_bytes()).map(|_| ()).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_without_its_module_is_refused_or_left_out_and_an_empty_one_is_none() {
        if selinux_enabled() {
            return;
        }
        let planned = |value, missing| {
            let mut faults = Faults::default();
            let label = plan("process.selinuxLabel", value, Label::SelinuxProcess, missing, &mut faults);
            (label, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
        };
        let refusal =
            "process.selinuxLabel: \"a:b\": this kernel has no SELinux at work (--missing-lsm warn does without)";
        assert_eq!(planned(Some("a:b"), Missing::Refused), (None, refusal.to_owned()));
        assert_eq!(planned(Some("a:b"), Missing::LeftOut), (None, String::new()));
        assert_eq!(planned(Some(""), Missing::Refused), (None, String::new()));
        assert_eq!(planned(None, Missing::Refused), (None, String::new()));
    }
}
