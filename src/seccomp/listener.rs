//! Whoever answers a filter's notifications, outside of the container: the socket that it listens on, and what it is sent.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{SockType, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use oci_spec::runtime::{ContainerProcessState, LinuxSeccomp, LinuxSeccompAction, SECCOMP_FD_NAME, State};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Faults, Result};
use crate::sys;

const PATH: &str = "linux.seccomp.listenerPath";

/// How long an agent may take to accept a connection and what comes on it, in seconds. One that hangs must not hold up
/// whoever starts a container for ever.
const PATIENCE: i64 = 10;

/// Where notifications go: the agent's socket, and what the profile has for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The path of an AF_UNIX stream socket on the host, absolute.
    pub path: PathBuf,
    /// What it is told beside, as it stands in the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

impl Listener {
    /// The listener of `profile`, if one of its actions is to notify one.
    pub(super) fn of(profile: &LinuxSeccomp, faults: &mut Faults) -> Option<Self> {
        let path = profile.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
        let metadata = profile.listener_metadata().clone().filter(|metadata| !metadata.is_empty());
        if let Some(metadata) = metadata.as_ref().filter(|_| path.is_none()) {
            faults.add(
                "linux.seccomp.listenerMetadata",
                format_args!("{metadata:?} is for nobody: linux.seccomp.listenerPath is not set"),
            );
        }
        let at = notifies(profile)?;
        let Some(path) = path else {
            faults.add(at, format_args!("{} needs {PATH}", LinuxSeccompAction::ScmpActNotify));
            return None;
        };
        if !path.is_absolute() {
            faults.add(PATH, format_args!("{:?} is not an absolute path", path.to_string_lossy()));
        }
        Some(Self { path: path.clone(), metadata })
    }

    /// Makes sure that somebody serves the socket, without connecting to it: a connection is for one message.
    ///
    /// A datagram socket finds the other by its path and is refused for its kind, if there is one.
    ///
    /// # Errors
    /// Why nobody would be reached, with the path.
    pub fn check(&self) -> Result<()> {
        let refused = sys::socket::unix(SockType::Datagram).and_then(|probe| sys::socket::connect(&probe, &self.path));
        match refused {
            Err(Errno::EPROTOTYPE) => Ok(()),
            Err(Errno::ECONNREFUSED) => {
                Err(Error::config(format!("{PATH}: nobody listens on \"{}\"", self.path.display())))
            }
            Err(errno) => Err(errno).context(|| self.what()),
            Ok(()) => Err(Error::config(format!("{}: it is a datagram socket, not a stream socket", self.what()))),
        }
    }

    /// Sends the descriptor of a filter's notifications, `fd`, with the container process state (config-linux.md, "The
    /// Container Process State"): `state` is the container's, `pid` that of the process under the filter.
    ///
    /// # Errors
    /// connect(2)'s and sendmsg(2)'s, with the path; `EAGAIN` if the agent does not take it in time.
    pub fn send(&self, state: &State, pid: i32, fd: BorrowedFd) -> Result<()> {
        let mut message = ContainerProcessState::default();
        message
            .set_version(state.version().clone())
            .set_fds(vec![SECCOMP_FD_NAME.to_owned()])
            .set_pid(pid)
            .set_metadata(self.metadata.clone())
            .set_state(state.clone());
        let text = serde_json::to_vec(&message)
            .map_err(|error| Error::system(format!("{}: write the process's state: {error}", self.what())))?;
        let send = || -> std::result::Result<(), Errno> {
            let socket = sys::socket::unix(SockType::Stream)?;
            setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE))?;
            sys::socket::connect(&socket, &self.path)?;
            sys::socket::send_fd(std::os::fd::AsFd::as_fd(&socket), &text, fd)
        };
        send().context(|| self.what())
    }

    fn what(&self) -> String {
        format!("{PATH}: reach the listener at \"{}\"", self.path.display())
    }
}

/// Where in `profile` the first action stands that is to notify a listener.
fn notifies(profile: &LinuxSeccomp) -> Option<String> {
    let is = |action| action == LinuxSeccompAction::ScmpActNotify;
    if is(profile.default_action()) {
        return Some("linux.seccomp.defaultAction".to_owned());
    }
    let syscalls = profile.syscalls().as_deref().unwrap_or_default();
    let at = syscalls.iter().position(|syscall| is(syscall.action()))?;
    Some(format!("linux.seccomp.syscalls[{at}].action"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    #[test]
    fn a_socket_is_checked_without_a_connection() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent");
        let listener = Listener { path: path.clone(), metadata: None };
        assert!(listener.check().unwrap_err().to_string().contains("no such file"));
        let agent = UnixListener::bind(&path).unwrap();
        listener.check().unwrap();
        agent.set_nonblocking(true).unwrap();
        assert_eq!(agent.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        drop(agent);
        let error = listener.check().unwrap_err().to_string();
        assert_eq!(error, format!("linux.seccomp.listenerPath: nobody listens on \"{}\"", path.display()));
        std::fs::remove_file(&path).unwrap();
        let _other = UnixDatagram::bind(&path).unwrap();
        assert!(listener.check().unwrap_err().to_string().contains("not a stream socket"));
        let file = Listener { path: directory.path().join("file"), metadata: None };
        std::fs::write(&file.path, "").unwrap();
        assert!(file.check().is_err());
    }
}
