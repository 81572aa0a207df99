//! Telling a service manager that a container's service is ready (sd_notify(3)).
//!
//! The container's process does not get the manager's own socket, which takes more than word of readiness, but one of
//! procrt's in the container's directory, bound at /run/notify. Of what comes there, only `READY=1` is passed on, with the
//! pid that is the container's as the host sees it.

use std::io::{IoSlice, PipeReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, recv, sendmsg, setsockopt, socket,
    sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::store::Entry;
use crate::error::{Context, Error, Result};

/// The socket's path in a container.
pub const NOTIFY_SOCKET: &str = "/run/notify/notify.sock";

/// Its directory there.
pub(super) const DIRECTORY_INSIDE: &str = "/run/notify";

/// That directory's name in the container's.
pub(super) const DIRECTORY: &str = "notify";

/// The socket's name in its directory.
const SOCKET: &str = "notify.sock";

/// How long the manager may take to take what it is told, and to read it, in milliseconds.
const PATIENCE: u16 = 30_000;

/// A service manager that waits for word of readiness.
#[derive(Debug, Clone, Copy)]
pub struct Manager(UnixAddr);

impl Manager {
    /// The manager that listens at `address`: an absolute path, or an abstract name after `@` (`NOTIFY_SOCKET`).
    ///
    /// # Errors
    /// If it is neither, or too long for an address.
    pub fn at(address: &str) -> Result<Self> {
        let parsed = match address.strip_prefix('@') {
            Some(name) => UnixAddr::new_abstract(name.as_bytes()),
            None if address.starts_with('/') => UnixAddr::new(address),
            None => return Err(Error::config(format!("NOTIFY_SOCKET={address:?}: is no path and no abstract name"))),
        };
        Ok(Self(parsed.context(|| format!("NOTIFY_SOCKET={address:?}: is no socket's address"))?))
    }

    /// Tells it, and waits until it has read that: it finds out who has spoken by the sender's pid, which is gone when
    /// procrt has ended.
    fn tell(&self, main: Option<i32>) -> Result<()> {
        let what = || "tell the service manager (NOTIFY_SOCKET) that the container is ready";
        let speaker = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).context(what)?;
        setsockopt(&speaker, sockopt::SendTimeout, &TimeVal::milliseconds(i64::from(PATIENCE))).context(what)?;
        let main = main.map(|pid| format!("MAINPID={pid}\n")).unwrap_or_default();
        self.send(&speaker, &format!("READY=1\n{main}"), &[]).context(what)?;
        let (read, write) = std::io::pipe().context(what)?;
        self.send(&speaker, "BARRIER=1", &[write.as_raw_fd()]).context(what)?;
        drop(write);
        wait_for_end(&read).context(what)
    }

    fn send(&self, speaker: &OwnedFd, text: &str, fds: &[i32]) -> nix::Result<()> {
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        let payload = [IoSlice::new(text.as_bytes())];
        loop {
            match sendmsg(speaker.as_raw_fd(), &payload, control, MsgFlags::MSG_NOSIGNAL, Some(&self.0)) {
                Err(Errno::EINTR) => {}
                answer => return answer.map(|_| ()),
            }
        }
    }
}

/// The other end of the pipe is closed when the manager has come to that message.
fn wait_for_end(pipe: &PipeReader) -> nix::Result<()> {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::from(PATIENCE)) {
            Err(Errno::EINTR) => {}
            Ok(0) => return Err(Errno::ETIMEDOUT),
            answer => return answer.map(|_| ()),
        }
    }
}

/// Makes the directory of the socket, which the container sees, in the container's own.
///
/// # Errors
/// As mkdir(2).
pub(super) fn make_directory(container: BorrowedFd) -> Result<()> {
    let mode = Mode::from_bits_retain(0o755);
    mkdirat(container, DIRECTORY, mode)
        .and_then(|()| fchmodat(container, DIRECTORY, mode, FchmodatFlags::FollowSymlink))
        .context(|| "make the directory for word of readiness (NOTIFY_SOCKET)")
}

/// Removes it, if there is one.
///
/// # Errors
/// As unlink(2).
pub(super) fn remove_directory(container: BorrowedFd) -> Result<()> {
    let Some(directory) = open_directory(container)? else {
        return Ok(());
    };
    match unlinkat(&directory, SOCKET, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(unlinkat(container, DIRECTORY, UnlinkatFlags::RemoveDir)?),
        Err(errno) => Err(errno.into()),
    }
}

fn open_directory(container: BorrowedFd) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(container, DIRECTORY, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The socket that a container's process speaks to.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

impl Listener {
    /// Makes the socket of a container that was created for a service manager; None if it was created for none.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub(super) fn bind(entry: &Entry) -> Result<Option<Self>> {
        let what = || "make the socket for word of readiness (NOTIFY_SOCKET)";
        let Some(directory) = open_directory(entry.directory()).context(what)? else {
            return Ok(None);
        };
        match unlinkat(&directory, SOCKET, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).context(what),
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::Datagram, flags, None).context(what)?;
        // An address holds 108 bytes, and an id alone can have more.
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        let address = UnixAddr::new(Path::new(&path)).context(what)?;
        bind(listener.as_raw_fd(), &address).context(what)?;
        // Whoever the container's user is, it may write; nobody outside reaches it.
        let anybody = Mode::from_bits_retain(0o777);
        fchmodat(&directory, SOCKET, anybody, FchmodatFlags::FollowSymlink).context(what)?;
        Ok(Some(Self(listener)))
    }

    /// Waits until the process behind `pidfd` says that it is ready, which is passed on to the manager with `main` as
    /// the service's main process, or has ended.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn relay(&self, manager: Manager, pidfd: BorrowedFd, main: Option<i32>) -> Result<()> {
        let what = || "wait for word of readiness";
        loop {
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd, PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                answer => answer.context(what)?,
            };
            if self.is_told_ready().context(what)? {
                return manager.tell(main);
            }
            if fds[1].any() == Some(true) {
                return Ok(());
            }
        }
    }

    /// Reads all that has come.
    fn is_told_ready(&self) -> nix::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) if says_ready(&buffer[..length]) => return Ok(true),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Relays beside whatever else procrt does meanwhile; ends with the process.
    ///
    /// # Errors
    /// As dup(2).
    pub(super) fn relay_meanwhile(self, manager: Manager, pidfd: &OwnedFd) -> Result<JoinHandle<()>> {
        let pidfd = pidfd.try_clone().context(|| "copy a pidfd")?;
        Ok(std::thread::spawn(move || {
            if let Err(error) = self.relay(manager, pidfd.as_fd(), None) {
                log::warn!("{error}");
            }
        }))
    }
}

/// A message is lines of `NAME=value`.
fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_ready_in_a_line_of_its_own() {
        assert!(says_ready(b"READY=1"));
        assert!(says_ready(b"STATUS=up\nREADY=1\n"));
        assert!(!says_ready(b"STATUS=READY=1"));
        assert!(!says_ready(b"READY=0\nX_READY=1"));
        assert!(!says_ready(b""));
    }

    #[test]
    fn an_address_is_a_path_or_an_abstract_name() {
        assert!(Manager::at("/run/systemd/notify").is_ok());
        assert!(Manager::at("@/org/freedesktop/systemd1/notify").is_ok());
        let fault = Manager::at("vsock:2:1").unwrap_err().to_string();
        assert_eq!(fault, r#"NOTIFY_SOCKET="vsock:2:1": is no path and no abstract name"#);
        assert!(
            Manager::at(&format!("/{}", "x".repeat(200))).unwrap_err().to_string().contains("is no socket's address")
        );
    }
}
