//! The mounts of this process's mount namespace.

use std::os::fd::AsRawFd;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::error::{Error, Result};

/// How many mounts are stacked on `path`.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn count_at(path: &Path) -> Result<usize> {
    let mounts = procfs::process::Process::myself().and_then(|process| process.mountinfo());
    let mounts = mounts.map_err(|error| Error::system(format!("read /proc/self/mountinfo: {error}")))?;
    Ok(mounts.into_iter().filter(|mount| mount.mount_point == path).count())
}

/// The type of the file system that `path` is on, and with `below` the types of those that are mounted below it; for
/// messages, so none where that cannot be found.
pub fn file_systems_at(path: &Path, below: bool) -> Vec<String> {
    let found = || -> Option<Vec<String>> {
        let file = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
        let id: i32 = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())?;
        let path = path.canonicalize().ok()?;
        let mounts = procfs::process::Process::myself().and_then(|process| process.mountinfo()).ok()?;
        let mut types = Vec::new();
        for mount in mounts {
            let counts = mount.mnt_id == id || below && mount.mount_point.starts_with(&path);
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
    fn a_file_system_is_known_by_its_type() {
        assert_eq!(file_systems_at(Path::new("/proc/self/status"), false), ["proc"]);
        assert_eq!(file_systems_at(Path::new("/proc/self/none"), false), [""; 0]);
        assert!(file_systems_at(Path::new("/"), true).contains(&"proc".to_owned()));
    }
}
