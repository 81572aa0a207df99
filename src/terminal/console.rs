//! Sending a descriptor to whoever drives the container: the terminal's master end to `--console-socket`, a pidfd of the
//! first process to `--pidfd-socket`.
//!
//! Both are connected stream sockets that get one message: one descriptor (`SCM_RIGHTS`) and a short text, which receivers
//! take as the descriptor's name and refuse if it is empty.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::SockType;

use crate::error::{Context, Error, Result};
use crate::sys;

/// What `--pidfd-socket` gets as the name of a container's first process.
pub const PIDFD_OF_INIT: &str = "standard";

/// What `--pidfd-socket` gets as the name of a process that joins a container.
pub const PIDFD_OF_EXEC: &str = "setns";

/// What `--console-socket` gets as the master's name, wherever in the container it was opened.
const MASTER: &str = "/dev/ptmx";

/// A close-on-exec stream socket connected to the one that listens at `path`, of any length.
///
/// # Errors
/// connect(2)'s, with the path.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let socket = sys::socket::unix(SockType::Stream)?;
    sys::socket::connect(&socket, path).context(|| format!("connect to the socket {:?}", path.to_string_lossy()))?;
    Ok(socket)
}

/// Sends a terminal's master end.
///
/// # Errors
/// sendmsg(2)'s.
pub fn send_master(socket: BorrowedFd, master: BorrowedFd) -> Result<()> {
    sys::socket::send_fd(socket, MASTER.as_bytes(), master).context(|| "send the terminal's master end")
}

/// Sends a pidfd under its name, [`PIDFD_OF_INIT`] or [`PIDFD_OF_EXEC`].
///
/// # Errors
/// sendmsg(2)'s.
pub fn send_pidfd(socket: BorrowedFd, name: &str, pidfd: BorrowedFd) -> Result<()> {
    sys::socket::send_fd(socket, name.as_bytes(), pidfd).context(|| "send the process's pidfd")
}

/// Waits for what [`send_master`] or [`send_pidfd`] sends: the descriptor, close-on-exec, and its name.
///
/// # Errors
/// recvmsg(2)'s; that the sender is gone, or sent no descriptor.
pub fn receive_fd(socket: BorrowedFd) -> Result<(OwnedFd, String)> {
    let mut name = [0; 256];
    match sys::socket::receive_fd(socket.as_fd(), &mut name).context(|| "receive a descriptor")? {
        (length, Some(fd)) => Ok((fd, String::from_utf8_lossy(&name[..length]).into_owned())),
        (0, None) => Err(Error::system("receive a descriptor: the sender is gone")),
        (_, None) => Err(Error::system("receive a descriptor: the message has none")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_name_and_close_on_exec() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send_master(here.as_fd(), writer.as_fd()).unwrap();
        drop(writer);
        let (received, name) = receive_fd(there.as_fd()).unwrap();
        assert_eq!(name, "/dev/ptmx");
        assert!(FdFlag::from_bits_truncate(fcntl(&received, FcntlArg::F_GETFD).unwrap()).contains(FdFlag::FD_CLOEXEC));
        std::fs::File::from(received).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        send_pidfd(here.as_fd(), PIDFD_OF_INIT, reader.as_fd()).unwrap();
        assert_eq!(receive_fd(there.as_fd()).unwrap().1, "standard");
    }

    #[test]
    fn a_sender_that_is_gone_or_sends_none_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"x").unwrap();
        let error = receive_fd(there.as_fd()).unwrap_err();
        assert_eq!(error.to_string(), "receive a descriptor: the message has none");
        drop(here);
        let error = receive_fd(there.as_fd()).unwrap_err();
        assert_eq!(error.to_string(), "receive a descriptor: the sender is gone");
    }

    #[test]
    fn a_path_of_any_length_is_connected_to() {
        let top = tempfile::tempdir().unwrap();
        for folder in ["s".to_owned(), "long".repeat(50)] {
            let folder = top.path().join(folder);
            std::fs::create_dir(&folder).unwrap();
            // A listener has the same limit; it is made under a short name and moved.
            let short = top.path().join("l");
            let listener = UnixListener::bind(&short).unwrap();
            let path = folder.join("console.sock");
            std::fs::rename(&short, &path).unwrap();
            let socket = connect(&path).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            send_master(socket.as_fd(), std::io::stderr().as_fd()).unwrap();
            receive_fd(accepted.as_fd()).unwrap();
        }
    }

    #[test]
    fn a_socket_that_is_not_there_is_named() {
        let error = connect(Path::new("/nowhere/console.sock")).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"connect to the socket "/nowhere/console.sock": no such file or directory (os error 2)"#
        );
    }
}
