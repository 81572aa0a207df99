//! AF_UNIX sockets, and passing descriptors over them (`SCM_RIGHTS`, unix(7)), with received ones owned from the start.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
    socket,
};
use nix::sys::stat::Mode;

/// A close-on-exec socket of the kind `kind`.
///
/// # Errors
/// socket(2)'s.
pub fn unix(kind: SockType) -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)
}

/// Connects `socket` to the one that is bound to `path`, of any length.
///
/// # Errors
/// connect(2)'s.
pub fn connect(socket: &OwnedFd, path: &Path) -> Result<(), Errno> {
    match UnixAddr::new(path) {
        Ok(address) => nix::sys::socket::connect(socket.as_raw_fd(), &address),
        // An address holds 108 bytes; a descriptor of the socket's file leads to the same place in fewer.
        Err(Errno::ENAMETOOLONG) => {
            let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            let through = format!("/proc/self/fd/{}", file.as_raw_fd());
            nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(through.as_str())?)
        }
        Err(errno) => Err(errno),
    }
}

/// Sends `payload`, which must not be empty, with one descriptor. Never raises SIGPIPE.
///
/// # Errors
/// sendmsg(2)'s; `EMSGSIZE` if a stream took only a part of `payload` (the descriptor went with that part).
pub fn send_fd(socket: BorrowedFd, payload: &[u8], fd: BorrowedFd) -> Result<(), Errno> {
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(payload)], &rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(sent) if sent < payload.len() => return Err(Errno::EMSGSIZE),
            Ok(_) => return Ok(()),
        }
    }
}

/// Receives a payload into `buffer` and the descriptor that came with it, close-on-exec. Of several descriptors the first
/// is kept and the others are closed. `(0, None)` is the end of the stream.
///
/// # Errors
/// recvmsg(2)'s.
pub fn receive_fd(socket: BorrowedFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    // As many as a sender may put in one message that a careful receiver still wants to close rather than truncate.
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 16]);
    loop {
        let mut into = [IoSliceMut::new(buffer)];
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)
        {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let mut received = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = part {
                // SAFETY: the kernel has just installed these descriptors for this message; nobody else owns them.
                received.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        return Ok((message.bytes, received.into_iter().next()));
    }
}
