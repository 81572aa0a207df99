//! The container's side of its terminal: a pty of the container's own devpts instance.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};

use super::Size;
use crate::error::{Context, Result};
use crate::sys;

/// Both ends of a pty. The slave end is only ever reached through the master's descriptor, so nothing that a container
/// puts at a path can take its place.
#[derive(Debug)]
pub struct Pty {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Pty {
    /// Makes a pty of `ptmx`, a `ptmx` of the container's devpts instance that was just opened for reading and writing
    /// (`O_NOCTTY | O_CLOEXEC`), and gives it a size.
    ///
    /// # Errors
    /// The system's, if `ptmx` is something else.
    pub fn open(ptmx: OwnedFd, size: Option<Size>) -> Result<Self> {
        sys::terminal::unlock(ptmx.as_fd()).context(|| "unlock the container's terminal")?;
        let slave = sys::terminal::peer(ptmx.as_fd()).context(|| "open the container's terminal")?;
        if let Some(size) = size {
            sys::terminal::set_window_size(ptmx.as_fd(), size.into())
                .context(|| "set the size of the container's terminal")?;
        }
        // Whoever was started without stdio gets low numbers here, which `adopt` is about to give another meaning.
        Ok(Self { master: above_stdio(ptmx)?, slave: above_stdio(slave)? })
    }

    /// The end that the terminal is driven through, to be sent away.
    pub fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// The container's end, also for what is mounted on `/dev/console`.
    pub fn slave(&self) -> BorrowedFd<'_> {
        self.slave.as_fd()
    }

    /// Makes `uid` the owner of the terminal, so that the container's user can open it by path; its group stays what the
    /// devpts instance's `gid=` option made it.
    ///
    /// # Errors
    /// fchown(2)'s; `EINVAL` if `uid` is not mapped in the caller's user namespace.
    pub fn give_to(&self, uid: u32) -> Result<()> {
        fchown(&self.slave, Some(Uid::from_raw(uid)), None)
            .context(|| format!("give the container's terminal to user {uid}"))
    }

    /// Makes the slave end the controlling terminal of the caller, which leads a session that has none (setsid(2)), and
    /// its descriptors 0, 1 and 2. Both ends are closed otherwise: the master must have been sent by now.
    ///
    /// # Errors
    /// The system's; `EPERM` if the caller does not lead a session without a terminal.
    pub fn adopt(self) -> Result<()> {
        sys::terminal::set_controlling(self.slave())
            .context(|| "take the container's terminal as the controlling one")?;
        dup2_stdin(&self.slave)
            .and_then(|()| dup2_stdout(&self.slave))
            .and_then(|()| dup2_stderr(&self.slave))
            .context(|| "make the container's terminal its stdio")
    }
}

fn above_stdio(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    fd.try_clone().context(|| "move the container's terminal above stdio")
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

    use super::*;

    pub(in crate::terminal) fn ptmx() -> OwnedFd {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open("/dev/ptmx").unwrap().into()
    }

    #[test]
    fn a_pty_has_the_size_that_was_asked_for() {
        let pty = Pty::open(ptmx(), Some(Size { rows: 33, columns: 101 })).unwrap();
        let size = sys::terminal::window_size(pty.slave()).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (33, 101));
    }

    #[test]
    fn a_pty_can_be_given_to_a_user_and_keeps_its_group() {
        let pty = Pty::open(ptmx(), None).unwrap();
        let slave = || std::fs::File::from(pty.slave().try_clone_to_owned().unwrap()).metadata().unwrap();
        let before = slave();
        pty.give_to(1234).unwrap();
        assert_eq!((slave().uid(), slave().gid()), (1234, before.gid()));
    }

    #[test]
    fn what_is_not_a_ptmx_is_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let error = Pty::open(null.into(), None).unwrap_err();
        assert!(error.to_string().starts_with("unlock the container's terminal: "), "{error}");
    }
}
