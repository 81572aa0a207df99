//! The start gate: where a created container waits for `start`, and through which it says how starting went.
//!
//! It is a FIFO in the container's directory. The child opens it for writing and is held there by the kernel until
//! `start` opens it for reading. The child's end closes at execve: `start` then reads the end of an empty file, or,
//! if starting failed, the error.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

use super::channel::{Channel, Message, encode};
use crate::error::{Context, Error, Result};
use crate::host::procfs;

/// The child's side of the gate.
#[derive(Debug)]
pub enum Gate {
    /// A created container's: a handle on the FIFO, not yet opened.
    Fifo(OwnedFd),
    /// `run`'s: the process that creates also starts, and needs no file to say so.
    Channel,
    /// None: whoever makes it has it start as soon as it can. It looks once more for its maker, whose end it would not hear of
    /// if that came before it asked to be killed with it.
    Open,
}

/// The gate after it was opened: the way to say that starting failed.
#[derive(Debug)]
pub enum Opened {
    /// Write the error here.
    Fifo(OwnedFd),
    /// Send the error on the channel.
    Channel,
}

impl Gate {
    /// The descriptor that it needs, if any.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Fifo(handle) => Some(handle.as_fd()),
            Self::Channel | Self::Open => None,
        }
    }

    /// Waits until the container is started.
    ///
    /// # Errors
    /// If the other side is gone.
    pub fn wait(&self, channel: &Channel, proc: BorrowedFd) -> Result<Opened> {
        match self {
            Self::Fifo(handle) => {
                // The user may not search the directory that the FIFO is in: through the handle it needs only the file.
                let path = format!("self/fd/{}", handle.as_raw_fd());
                let fifo = loop {
                    match procfs::open(proc, &path, OFlag::O_WRONLY) {
                        Err(error) if error.errno() == Some(libc::EINTR) => {}
                        answer => break answer.context(|| "wait to be started")?,
                    }
                };
                Ok(Opened::Fifo(fifo))
            }
            Self::Open if channel.is_abandoned() => {
                Err(Error::system("the process that was making the container is gone"))
            }
            Self::Open => Ok(Opened::Channel),
            Self::Channel => {
                channel.wait_for_go()?;
                Ok(Opened::Channel)
            }
        }
    }
}

impl Opened {
    /// Says that starting failed.
    pub fn fail(&self, channel: &Channel, error: &Error) {
        match self {
            Self::Fifo(fifo) => {
                // Nobody is left to be told where this fails too.
                let _ = nix::unistd::write(fifo.as_fd(), &encode(error));
            }
            Self::Channel => {
                let _ = channel.send(&Message::Failed(error.clone()));
            }
        }
    }
}
