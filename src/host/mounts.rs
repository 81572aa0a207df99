//! The mounts of this process's mount namespace.

use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_has_a_mount_and_another_directory_none() {
        assert!(count_at(Path::new("/proc")).unwrap() >= 1);
        assert_eq!(count_at(Path::new("/proc/self")).unwrap(), 0);
    }
}
