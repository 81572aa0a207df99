//! The mounts of this process's mount namespace.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use procfs::process::{MountInfo, MountInfos, Process};

use crate::error::{Error, Result};

/// How many mounts are stacked on `path`.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn count_at(path: &Path) -> Result<usize> {
    Ok(all()?.into_iter().filter(|mount| point_of(mount) == path).count())
}

/// Where a file system of that type is mounted, if one is.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn of_type(name: &str) -> Result<Option<PathBuf>> {
    Ok(all()?.into_iter().find(|mount| mount.fs_type == name).map(|mount| point_of(&mount)))
}

fn all() -> Result<MountInfos> {
    let mounts = Process::myself().and_then(|process| process.mountinfo());
    mounts.map_err(|error| Error::system(format!("read /proc/self/mountinfo: {error}")))
}

/// Where a mount is: the kernel writes spaces, tabs, line ends and backslashes as octal numbers.
fn point_of(mount: &MountInfo) -> PathBuf {
    mount.mount_point.to_str().map_or_else(|| mount.mount_point.clone(), unescape)
}

/// Undoes mountinfo's octal escapes (`\040` is a space).
pub(super) fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| text.get(at + 1..at + 4)).flatten();
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(byte);
            at += 4;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    OsString::from_vec(plain).into()
}

/// The type of the file system that `path` is on, and with `below` the types of those that are mounted below it; for
/// messages, so none where that cannot be found.
pub fn file_systems_at(path: &Path, below: bool) -> Vec<String> {
    let found = || -> Option<Vec<String>> {
        let file = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
        let id: i32 = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())?;
        let path = path.canonicalize().ok()?;
        let mounts = all().ok()?;
        let mut types = Vec::new();
        for mount in mounts {
            let counts = mount.mnt_id == id || below && point_of(&mount).starts_with(&path);
            if counts && !types.contains(&mount.fs_type) {
                types.push(mount.fs_type);
            }
        }
        Some(types)
    };
    found().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_has_a_mount_and_another_directory_none() {
        assert!(count_at(Path::new("/proc")).unwrap() >= 1);
        assert_eq!(count_at(Path::new("/proc/self")).unwrap(), 0);
    }

    #[test]
    fn escapes_of_mountinfo_are_undone() {
        assert_eq!(unescape(r"/a\040b\012c\134d\"), Path::new("/a b\nc\\d\\"));
        assert_eq!(unescape(r"/plain\9é\04"), Path::new(r"/plain\9é\04"));
    }

    #[test]
    fn a_file_system_is_known_by_its_type() {
        assert_eq!(file_systems_at(Path::new("/proc/self/status"), false), ["proc"]);
        assert_eq!(file_systems_at(Path::new("/proc/self/none"), false), [""; 0]);
        assert!(file_systems_at(Path::new("/"), true).contains(&"proc".to_owned()));
    }
}
