//! What the two sides of clone3 say to each other while a container is made.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, accept4, recvmsg, sendmsg,
    socketpair,
};

use crate::cgroup::Entrance;
use crate::error::{Context, Error, Result};
use crate::sys::child::Ending;

/// The longest message. An error's text is cut to fit.
const LONGEST: usize = 32 * 1024;

/// The most descriptors that come with a message, which is the kernel's limit (unix(7), `SCM_RIGHTS`).
const DESCRIPTORS: usize = 253;

/// One message.
#[derive(Debug)]
pub enum Message {
    /// To the child: go on.
    Go,
    /// To the child: its ids are mapped, and this is its way into its control groups.
    Enter(Entrance),
    /// To the child: mounts that its root is made of, as many as fit.
    Sources(Vec<OwnedFd>),
    /// From an intermediate process: a pidfd of the container's first process. From a first process that stays procrt's:
    /// a pidfd of the program's.
    Child(OwnedFd),
    /// From a first process that stays procrt's: the program's process has ended.
    Ended(Ending),
    /// From the child: here is the terminal's master end.
    Terminal(OwnedFd),
    /// From the child: it is under its filter, and this is the listener of the filter's notifications.
    Listener(OwnedFd),
    /// From the child: what whoever calls procrt should know, a warning.
    Note(String),
    /// From the child: namespaces and mounts are there, it is the time of the hooks on the host's side.
    Hooks,
    /// From the child: everything is done but starting.
    Ready,
    /// From the child: it could not be done.
    Failed(Error),
}

/// One end of the channel. Closed by execve, by exit and by a kill, whichever comes: the other end then reads its end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    ///
    /// # Errors
    /// As socketpair(2).
    pub fn pair() -> Result<(Self, Self)> {
        // Packets: a message arrives whole or not at all.
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .context(|| "make the channel to the container's process")?;
        Ok((Self(one), Self(other)))
    }

    /// The end of the one who connects to `socket`, a listening socket of this kind; of the last one, where several have:
    /// those before were killed.
    ///
    /// # Errors
    /// As accept(2).
    pub fn accept(socket: BorrowedFd) -> Result<Self> {
        loop {
            let fd = match accept4(socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Ok(fd) => Self(crate::sys::process::take_received(fd)),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context(|| "meet the process that starts the container"),
            };
            let mut others = [PollFd::new(socket, PollFlags::POLLIN)];
            if poll(&mut others, PollTimeout::ZERO) != Ok(1) {
                return Ok(fd);
            }
        }
    }

    /// The other end of [`Channel::accept`]: `socket` is connected.
    pub fn of_connected(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Another handle on the same end.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn another(&self) -> Result<Self> {
        self.0.try_clone().map(Self).context(|| "copy the channel's descriptor")
    }

    /// Sends `message`.
    ///
    /// # Errors
    /// If the other side is gone.
    pub fn send(&self, message: &Message) -> Result<()> {
        let (tag, body, descriptors): (u8, Vec<u8>, &[OwnedFd]) = match message {
            Message::Go => (b'G', Vec::new(), &[]),
            Message::Enter(entrance) => (b'E', Vec::new(), &entrance.tasks),
            Message::Sources(trees) => (b'S', Vec::new(), trees),
            Message::Child(pidfd) => (b'C', Vec::new(), std::slice::from_ref(pidfd)),
            Message::Terminal(master) => (b'T', Vec::new(), std::slice::from_ref(master)),
            Message::Listener(listener) => (b'L', Vec::new(), std::slice::from_ref(listener)),
            Message::Ended(Ending::Exited(status)) => (b'X', status.to_ne_bytes().to_vec(), &[]),
            Message::Ended(Ending::Killed(signal)) => (b'K', signal.to_ne_bytes().to_vec(), &[]),
            Message::Note(text) => (b'N', text.as_bytes().to_vec(), &[]),
            Message::Hooks => (b'H', Vec::new(), &[]),
            Message::Ready => (b'R', Vec::new(), &[]),
            Message::Failed(error) => (b'F', encode(error), &[]),
        };
        let slices = [IoSlice::new(std::slice::from_ref(&tag)), IoSlice::new(&body)];
        let descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let control: &[ControlMessage] = if descriptors.is_empty() { &[] } else { &rights };
        sendmsg::<()>(self.0.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None)
            .context(|| "tell the other side of the container's making")?;
        Ok(())
    }

    /// Waits for the next message; nothing when the other side is gone.
    ///
    /// # Errors
    /// As recvmsg(2), and for what is no message.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut buffer = vec![0_u8; LONGEST];
        let mut control = cmsg_space!([std::os::fd::RawFd; DESCRIPTORS]);
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let (length, descriptors) =
                match recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
                    Ok(received) => (received.bytes, received_descriptors(&received)?),
                    // What the other side has not read before it went is told once, before what it has sent.
                    Err(Errno::EINTR | Errno::ECONNRESET) => continue,
                    Err(errno) => return Err(errno).context(|| "hear from the container's process"),
                };
            return decode(&buffer[..length], descriptors);
        }
    }

    /// Whether the other side is gone.
    pub fn is_abandoned(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO) == Ok(1)
    }

    /// Why the other side has failed, if it has said so by now.
    pub fn failure(&self) -> Option<Error> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(1) => match self.receive() {
                Ok(Some(Message::Failed(error))) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Waits for the way into the container's control groups.
    ///
    /// # Errors
    /// If the other side is gone, or says something else.
    pub fn wait_to_enter(&self) -> Result<Entrance> {
        match self.receive()? {
            Some(Message::Enter(entrance)) => Ok(entrance),
            _ => Err(Error::system("the process that was making the container is gone")),
        }
    }

    /// Sends the mounts that the child's root is made of, however many.
    ///
    /// # Errors
    /// If the other side is gone.
    pub fn send_sources(&self, mut trees: Vec<OwnedFd>) -> Result<()> {
        while !trees.is_empty() {
            let rest = trees.split_off(trees.len().min(DESCRIPTORS));
            self.send(&Message::Sources(std::mem::replace(&mut trees, rest)))?;
        }
        Ok(())
    }

    /// Waits for `count` mounts that the root is made of; none if the child is to open them by itself.
    ///
    /// # Errors
    /// If the other side is gone, or says something else.
    pub fn wait_for_sources(&self, count: usize) -> Result<Option<Vec<OwnedFd>>> {
        let mut trees = Vec::new();
        while trees.len() < count {
            match self.receive()? {
                Some(Message::Sources(more)) => trees.extend(more),
                Some(Message::Go) => return Ok(None),
                _ => return Err(Error::system("the process that was making the container is gone")),
            }
        }
        Ok(Some(trees))
    }

    /// Waits until the other side says to go on.
    ///
    /// # Errors
    /// If it is gone, or says something else.
    pub fn wait_for_go(&self) -> Result<()> {
        match self.receive()? {
            Some(Message::Go) => Ok(()),
            _ => Err(Error::system("the process that was making the container is gone")),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn received_descriptors(message: &nix::sys::socket::RecvMsg<'_, '_, ()>) -> Result<Vec<OwnedFd>> {
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            received.extend(descriptors.into_iter().map(crate::sys::process::take_received));
        }
    }
    Ok(received)
}

fn decode(packet: &[u8], mut descriptors: Vec<OwnedFd>) -> Result<Option<Message>> {
    let Some((tag, body)) = packet.split_first() else {
        return Ok(None);
    };
    if *tag == b'E' {
        return Ok(Some(Message::Enter(Entrance { tasks: descriptors })));
    }
    if *tag == b'S' {
        return Ok(Some(Message::Sources(descriptors)));
    }
    let message = match (tag, descriptors.pop()) {
        (b'G', _) => Message::Go,
        (b'C', Some(pidfd)) => Message::Child(pidfd),
        (b'T', Some(master)) => Message::Terminal(master),
        (b'L', Some(listener)) => Message::Listener(listener),
        (b'X' | b'K', _) => {
            let number = body.try_into().map(i32::from_ne_bytes);
            let number = number.map_err(|_| Error::system("a message on the channel is cut"))?;
            Message::Ended(if *tag == b'X' { Ending::Exited(number) } else { Ending::Killed(number) })
        }
        (b'N', _) => Message::Note(String::from_utf8_lossy(body).into_owned()),
        (b'H', _) => Message::Hooks,
        (b'R', _) => Message::Ready,
        (b'F', _) => Message::Failed(decode_error(body)),
        _ => return Err(Error::system("a message on the channel is unknown")),
    };
    Ok(Some(message))
}

/// An error as bytes, for the channel and the start gate.
pub fn encode(error: &Error) -> Vec<u8> {
    let bytes = serde_json::to_vec(error).unwrap_or_default();
    if bytes.len() < LONGEST {
        return bytes;
    }
    let text: String = error.to_string().chars().take(LONGEST / 8).collect();
    serde_json::to_vec(&Error::new(error.kind(), text)).unwrap_or_default()
}

/// The error of [`encode`].
pub fn decode_error(bytes: &[u8]) -> Error {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Error::system("the container's process failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_error_arrives_as_the_same_value() {
        let (one, other) = Channel::pair().unwrap();
        let error = Error::from(Errno::EPERM).context("mount").of_kind(Kind::Hook);
        one.send(&Message::Failed(error.clone())).unwrap();
        assert!(matches!(other.receive().unwrap(), Some(Message::Failed(received)) if received == error));
    }

    #[test]
    fn a_descriptor_arrives_open() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&Message::Terminal(std::fs::File::open("/dev/null").unwrap().into())).unwrap();
        let Some(Message::Terminal(fd)) = other.receive().unwrap() else { panic!("no descriptor") };
        assert_eq!(nix::sys::stat::fstat(fd).unwrap().st_rdev, libc::makedev(1, 3));
    }

    #[test]
    fn the_end_of_the_other_side_is_no_message() {
        let (one, other) = Channel::pair().unwrap();
        drop(one);
        assert!(other.receive().unwrap().is_none());
        assert!(other.wait_for_go().is_err());
    }

    #[test]
    fn what_was_sent_arrives_also_of_one_that_has_not_read_what_it_was_sent() {
        let (one, other) = Channel::pair().unwrap();
        other.send(&Message::Go).unwrap();
        one.send(&Message::Failed(Error::config("this"))).unwrap();
        drop(one);
        assert!(matches!(other.receive().unwrap(), Some(Message::Failed(error)) if error.to_string() == "this"));
        assert!(other.receive().unwrap().is_none());
    }

    #[test]
    fn an_error_that_is_too_long_is_cut_and_not_lost() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&Message::Failed(Error::config("x".repeat(1 << 20)))).unwrap();
        let Some(Message::Failed(error)) = other.receive().unwrap() else { panic!("no error") };
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().starts_with("xxxx"));
    }
}
