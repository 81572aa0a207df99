//! Stdio that a container inherits, when it has no terminal.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::{Uid, fchown};

use crate::error::{Context, Result};

/// Makes `uid` the owner of what descriptors 0, 1 and 2 are, their groups untouched, so that the container's user can open
/// `/dev/stdout` and the like, which are links to them. `/dev/null` stays the machine's, and so does what cannot
/// change hands: an owner that is not mapped in the container's user namespace, or a read-only file system.
///
/// # Errors
/// Any other of fchown(2)'s.
pub fn give_to(uid: u32) -> Result<()> {
    give(std::io::stdin(), uid)?;
    give(std::io::stdout(), uid)?;
    give(std::io::stderr(), uid)
}

fn give(stream: impl AsFd, uid: u32) -> Result<()> {
    let what = || format!("give stdio to user {uid}");
    let stat = fstat(&stream).context(what)?;
    if stat.st_uid == uid || stat.st_rdev == NULL_DEVICE {
        return Ok(());
    }
    match fchown(&stream, Some(Uid::from_raw(uid)), None) {
        Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => Ok(()),
        other => other.context(what),
    }
}

/// `/dev/null` is character device 1:3 on every Linux (devices.txt).
const NULL_DEVICE: nix::libc::dev_t = nix::libc::makedev(1, 3);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_pipe_changes_hands_and_the_null_device_does_not() {
        let (reader, _writer) = std::io::pipe().unwrap();
        give(&reader, 4321).unwrap();
        assert_eq!(fstat(&reader).unwrap().st_uid, 4321);
        let null = std::fs::File::open("/dev/null").unwrap();
        let owner = null.metadata().unwrap().uid();
        give(&null, 4321).unwrap();
        assert_eq!(null.metadata().unwrap().uid(), owner);
    }
}
