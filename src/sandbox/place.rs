//! Directories in which it is remembered what a user's sandboxes are made of. What is read there is believed, and acted on as
//! that user, so each has to be the user's alone.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use super::tree::shown;
use crate::error::{Context, Error, Result};

/// The directory `name` of this process's user, made if it is missing: `/run/NAME` of root, else below `XDG_RUNTIME_DIR`, and
/// where that is not set `/tmp/NAME-UID`.
///
/// # Errors
/// If it cannot be made, is somebody else's, or is open to others.
pub fn of_user(name: &str) -> Result<PathBuf> {
    let uid = nix::unistd::geteuid();
    let runtime = || std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let path = if uid.is_root() {
        PathBuf::from("/run").join(name)
    } else {
        runtime().map_or_else(|| format!("/tmp/{name}-{uid}").into(), |runtime| runtime.join(name))
    };
    let what = || format!("the directory of sandboxes {}", shown(&path));
    let metadata = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(&path).context(what)?;
            fs::symlink_metadata(&path)
        }
        found => found,
    };
    let metadata = metadata.context(what)?;
    if !metadata.is_dir() || metadata.uid() != uid.as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(Error::config("it is not this user's alone")).context(what);
    }
    Ok(path)
}
