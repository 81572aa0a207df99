//! The mounts of this process's mount namespace.

use std::path::{Path, PathBuf};

use procfs::process::{MountInfos, Process};

use crate::error::{Error, Result};

/// How many mounts are stacked on `path`.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn count_at(path: &Path) -> Result<usize> {
    Ok(all()?.into_iter().filter(|mount| mount.mount_point == path).count())
}

/// Where a file system of that type is mounted, if one is.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn of_type(name: &str) -> Result<Option<PathBuf>> {
    Ok(all()?.into_iter().find(|mount| mount.fs_type == name).map(|mount| mount.mount_point))
}

fn all() -> Result<MountInfos> {
    let mounts = Process::myself().and_then(|process| process.mountinfo());
    mounts.map_err(|error| Error::system(format!("read /proc/self/mountinfo: {error}")))
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
    fn a_file_system_is_found_by_its_type() {
        assert!(of_type("proc").unwrap().is_some_and(|path| path.starts_with("/")));
        assert_eq!(of_type("no-such-type").unwrap(), None);
    }
}
