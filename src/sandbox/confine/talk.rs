//! What the supervisor and the keeper of a confined process say to each other, in packets.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use crate::error::{Context, Error, Result};
use crate::sys::child::Ending;
use crate::sys::socket::{receive_fd, send_fd};

/// To the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Send the first process a signal.
    Signal(i32),
    /// Send all processes SIGTERM.
    Terminate,
    /// End all processes.
    Kill,
    /// Remove what was made, and go.
    Remove,
}

/// From the keeper.
#[derive(Debug)]
pub(super) enum Word {
    /// The first process is there.
    Begun(OwnedFd),
    /// It could not be made, or what was ordered could not be done.
    Failed(Error),
    /// The first process has ended.
    Ended(Ending),
    /// No process is left; the processor time of all.
    AllEnded(Duration),
    /// All is removed.
    Removed,
}

/// One end.
#[derive(Debug)]
pub(super) struct Talk(OwnedFd);

impl Talk {
    pub(super) fn pair() -> Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .context(|| "make a channel to the keeper")?;
        Ok((Self(one), Self(other)))
    }

    pub(super) fn order(&self, order: Order) -> Result<()> {
        let (tag, value) = match order {
            Order::Signal(signal) => (b'S', signal),
            Order::Terminate => (b'T', 0),
            Order::Kill => (b'K', 0),
            Order::Remove => (b'R', 0),
        };
        let mut packet = vec![tag];
        packet.extend(value.to_le_bytes());
        self.send(&packet)
    }

    /// The next order; none if the other side is gone.
    pub(super) fn next_order(&self) -> Result<Option<Order>> {
        let mut packet = [0; 8];
        let (count, _) = receive_fd(self.0.as_fd(), &mut packet).context(|| "hear from the supervisor")?;
        let value = i32::from_le_bytes([packet[1], packet[2], packet[3], packet[4]]);
        Ok(match (count, packet[0]) {
            (0, _) => None,
            (_, b'S') => Some(Order::Signal(value)),
            (_, b'T') => Some(Order::Terminate),
            (_, b'K') => Some(Order::Kill),
            _ => Some(Order::Remove),
        })
    }

    pub(super) fn say(&self, word: &Word) -> Result<()> {
        match word {
            Word::Begun(pidfd) => send_fd(self.0.as_fd(), b"B", pidfd.as_fd()).context(|| "tell the supervisor"),
            Word::Failed(error) => {
                let mut packet = vec![b'F'];
                packet.extend(serde_json::to_vec(error).unwrap_or_default());
                self.send(&packet)
            }
            Word::Ended(ending) => {
                let (tag, value) = match ending {
                    Ending::Exited(status) => (b'X', status),
                    Ending::Killed(signal) => (b'Z', signal),
                };
                let mut packet = vec![tag];
                packet.extend(value.to_le_bytes());
                self.send(&packet)
            }
            Word::AllEnded(time) => {
                let mut packet = vec![b'A'];
                packet.extend((time.as_nanos() as u64).to_le_bytes());
                self.send(&packet)
            }
            Word::Removed => self.send(b"R"),
        }
    }

    /// The next word.
    pub(super) fn hear(&self) -> Result<Word> {
        let mut packet = [0; 8192];
        let (count, fd) = receive_fd(self.0.as_fd(), &mut packet).context(|| "hear from the keeper")?;
        let number = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().unwrap_or_default());
        match (packet[..count].split_first(), fd) {
            (Some((b'B', _)), Some(pidfd)) => Ok(Word::Begun(pidfd)),
            (Some((b'X', value)), _) => Ok(Word::Ended(Ending::Exited(number(value)))),
            (Some((b'Z', value)), _) => Ok(Word::Ended(Ending::Killed(number(value)))),
            (Some((b'A', value)), _) => {
                let nanoseconds = u64::from_le_bytes(value.try_into().unwrap_or_default());
                Ok(Word::AllEnded(Duration::from_nanos(nanoseconds)))
            }
            (Some((b'R', _)), _) => Ok(Word::Removed),
            (Some((b'F', text)), _) => Ok(Word::Failed(parse(text))),
            _ => Err(Error::system("the keeper of the sandbox's processes was killed")),
        }
    }

    fn send(&self, packet: &[u8]) -> Result<()> {
        loop {
            match send(self.0.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => {
                    return Err(Error::system("the other side of the sandbox is gone"));
                }
                sent => return sent.map(drop).context(|| "tell the other side of the sandbox"),
            }
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An error as it was sent.
pub(super) fn parse(text: &[u8]) -> Error {
    serde_json::from_slice(text).unwrap_or_else(|_| Error::system("the command could not be started"))
}
