//! One connection to a service manager, over a Unix socket.
//!
//! systemd listens on a socket of its own, which needs no bus and is what systemctl(1) uses; where that cannot be reached,
//! the bus can. Blocking, with a time limit, without a thread.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::{Deserialize, Serialize};

use super::wire::{Call, Message, Received, Value};
use crate::error::{Context, Error, Result};
use crate::host::procfs;

/// How long systemd is given for one request; it needs milliseconds, unless the machine is at its end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Says that systemd is the machine's first process (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

pub(super) const SERVICE: &str = "org.freedesktop.systemd1";
pub(super) const OBJECT: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Where a service manager is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// The socket's path, or `@` and a name in the abstract namespace (unix(7)).
    pub path: String,
    /// It is the manager's own, and not a bus that the manager is on.
    pub direct: bool,
}

/// A service manager: the system's, or a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// Where it was reached.
    pub socket: Socket,
    /// It is a user's.
    pub user: bool,
    /// The control group that its slices are in, from the hierarchy's root: `/`, or that of `user@UID.service`.
    pub root: PathBuf,
}

/// What a call came to.
#[derive(Debug)]
pub(super) enum Answer {
    Done(Message),
    /// The error's name, and its sentence.
    Refused(String, String),
}

impl Answer {
    /// The answer, if it is none of a refusal.
    pub fn done(self) -> Result<Message> {
        match self {
            Self::Done(message) => Ok(message),
            Self::Refused(name, why) => {
                Err(Error::system(if why.is_empty() { name } else { format!("{why} ({name})") }))
            }
        }
    }
}

/// A connection to a service manager.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    direct: bool,
    serial: u32,
    /// The server has said that it knows who calls. systemd looks at a message that it receives before only when the next
    /// one comes.
    accepted: bool,
    /// What goes before the first call: on a bus, the greeting and the wish for signals.
    unsent: Vec<u8>,
    unread: Vec<u8>,
    signals: VecDeque<Message>,
}

/// Connects to the service manager that makes this user's containers' units: the system's for root, or else the user's,
/// also for whoever is root in a user namespace.
///
/// # Errors
/// `Kind::Unsupported` if there is none; or that it cannot be reached.
pub fn find() -> Result<(Manager, Connection)> {
    let user = !nix::unistd::geteuid().is_root() || in_user_namespace()?;
    let sockets = if user {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        user_sockets(variable("XDG_RUNTIME_DIR"), variable("DBUS_SESSION_BUS_ADDRESS").as_deref())?
    } else {
        if !Path::new(BOOTED).is_dir() {
            let why = format!("--systemd-cgroup: systemd is not this machine's service manager (there is no {BOOTED})");
            return Err(Error::unsupported(why));
        }
        let bus = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
        let bus = bus.as_deref().unwrap_or("unix:path=/run/dbus/system_bus_socket");
        [direct("/run/systemd/private")].into_iter().chain(bus_socket(bus)).collect()
    };
    let mut failed = None;
    for socket in sockets {
        match Connection::open(&socket) {
            Ok(mut connection) => {
                connection.check_pids(user)?;
                let root =
                    connection.root().context(|| "--systemd-cgroup: find the service manager's control group")?;
                return Ok((Manager { socket, user, root }, connection));
            }
            Err(errno) => failed = failed.or(Some((socket, errno))),
        }
    }
    let who = if user { "the user's service manager" } else { "systemd" };
    let (socket, errno) = failed.unwrap_or((direct(""), Errno::ENOENT));
    Err(Error::from(errno).context(format!("--systemd-cgroup: connect to {who} at {:?}", socket.path)))
}

fn direct(path: impl Into<String>) -> Socket {
    Socket { path: path.into(), direct: true }
}

fn user_sockets(runtime_dir: Option<String>, address: Option<&str>) -> Result<Vec<Socket>> {
    let default = runtime_dir.as_ref().map(|dir| format!("unix:path={dir}/bus"));
    let own = runtime_dir.map(|dir| direct(format!("{dir}/systemd/private")));
    let bus = address.or(default.as_deref()).and_then(bus_socket);
    let sockets: Vec<Socket> = own.into_iter().chain(bus).collect();
    if sockets.is_empty() {
        let why = "without root it is the user's service manager that makes them, and neither XDG_RUNTIME_DIR nor \
                   DBUS_SESSION_BUS_ADDRESS says where it is";
        return Err(Error::unsupported(format!("--systemd-cgroup: {why}")));
    }
    Ok(sockets)
}

/// The first Unix socket of a D-Bus server's address (D-Bus specification, "Server Addresses").
fn bus_socket(address: &str) -> Option<Socket> {
    address.split(';').find_map(|one| {
        let mut pairs = one.strip_prefix("unix:")?.split(',').filter_map(|pair| pair.split_once('='));
        let path = pairs.find_map(|(key, value)| match key {
            "path" => unescape(value),
            "abstract" => unescape(value).map(|name| format!("@{name}")),
            _ => None,
        })?;
        Some(Socket { path, direct: false })
    })
}

/// Undoes the escapes of an address's value: `%20` is a space.
fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first == b'%' {
            let digits = std::str::from_utf8(others.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &others[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Whether root here is somebody else's root: not all ids are its own (user_namespaces(7)).
fn in_user_namespace() -> Result<bool> {
    let proc = procfs::handle()?;
    let map = procfs::read(proc.as_fd(), "self/uid_map").context(|| "read /proc/self/uid_map")?;
    Ok(!map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

impl Connection {
    /// Connects, and says who calls. The server's answer is read with the first call's.
    ///
    /// # Errors
    /// connect(2)'s: `ENOENT` and `ECONNREFUSED` if nobody listens there.
    pub fn open(at: &Socket) -> nix::Result<Self> {
        let address = match at.path.strip_prefix('@') {
            Some(name) => UnixAddr::new_abstract(name.as_bytes())?,
            None => UnixAddr::new(at.path.as_str())?,
        };
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // connect(2) too waits, for whoever does not accept.
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE.as_secs().cast_signed()))?;
        connect(socket.as_raw_fd(), &address)?;
        let mut connection = Self {
            socket,
            direct: at.direct,
            serial: 0,
            accepted: false,
            unsent: Vec::new(),
            unread: Vec::new(),
            signals: VecDeque::new(),
        };
        // The kernel tells the server whose process this is: no id is named, which in a user namespace is another anyway.
        connection.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        if !at.direct {
            let bus = |member, arguments: &[Value], serial| {
                let name = "org.freedesktop.DBus";
                let path = "/org/freedesktop/DBus";
                Call { destination: name, path, interface: name, member, arguments }.to_message(serial)
            };
            let rule = format!("type='signal',sender='{SERVICE}',interface='{MANAGER}',member='JobRemoved'");
            connection.unsent = bus("Hello", &[], 1);
            connection.unsent.extend(bus("AddMatch", &[Value::Text(rule)], 2));
            connection.serial = 2;
        }
        Ok(connection)
    }

    fn send(&self, mut bytes: &[u8]) -> nix::Result<()> {
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EINTR) => {}
                sent => bytes = &bytes[sent?..],
            }
        }
        Ok(())
    }

    /// Checks that a process has the same number here and there: the manager is told of the first process by it.
    fn check_pids(&self, user: bool) -> Result<()> {
        let pid = getsockopt(&self.socket, PeerCredentials).context(|| "ask who is systemd")?.pid();
        // Whoever is in no namespace of this process's has no number.
        let elsewhere = pid == 0 || pid != 1 && self.direct && !user;
        if elsewhere {
            let why = "systemd and procrt are in different PID namespaces, and could not speak of the same process";
            return Err(Error::unsupported(format!("--systemd-cgroup: {why}")));
        }
        Ok(())
    }

    /// The control group that the manager's slices are in.
    fn root(&mut self) -> Result<PathBuf> {
        if self.direct
            && let Some(path) = self.own_cgroup_of_peer()
        {
            return Ok(path);
        }
        let arguments = [Value::text(MANAGER), Value::text("ControlGroup")];
        let interface = "org.freedesktop.DBus.Properties";
        let call = Call { destination: SERVICE, path: OBJECT, interface, member: "Get", arguments: &arguments };
        let answer = self.call(&call)?.done()?;
        let mut body = answer.body("v")?;
        match body.signature()? {
            "s" => Ok(Path::new("/").join(body.text()?.trim_start_matches('/'))),
            other => Err(Error::system(format!("ControlGroup is of type {other:?}"))),
        }
    }

    /// The same without a question, as the process at the other end is the manager itself: it is in `init.scope` below.
    fn own_cgroup_of_peer(&self) -> Option<PathBuf> {
        let pid = getsockopt(&self.socket, PeerCredentials).ok()?.pid();
        let proc = procfs::handle().ok()?;
        let text = procfs::read(proc.as_fd(), &format!("{pid}/cgroup")).ok()?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        Some(Path::new("/").join(own.strip_suffix("/init.scope")?))
    }

    /// Calls a method of the manager's, and waits for the answer.
    pub(super) fn call_manager(&mut self, member: &str, arguments: &[Value]) -> Result<Answer> {
        self.call(&Call { destination: SERVICE, path: OBJECT, interface: MANAGER, member, arguments })
            .context(|| format!("call systemd's {member}"))
    }

    /// Waits until systemd has done all that it was asked for before.
    pub(super) fn ping(&mut self) -> Result<()> {
        let interface = "org.freedesktop.DBus.Peer";
        self.call(&Call { destination: SERVICE, path: OBJECT, interface, member: "Ping", arguments: &[] })?
            .done()
            .map(drop)
    }

    fn call(&mut self, call: &Call) -> Result<Answer> {
        self.serial += 1;
        let serial = self.serial;
        let end = Instant::now() + PATIENCE;
        while !self.accepted {
            self.read(end)?;
            self.accepted = take_acceptance(&mut self.unread)?;
        }
        let mut bytes = std::mem::take(&mut self.unsent);
        bytes.extend(call.to_message(serial));
        self.send(&bytes).context(|| "send a message to systemd")?;
        loop {
            let message = self.receive(end)?;
            match &message.received {
                Received::Return(to) if *to == serial => return Ok(Answer::Done(message)),
                Received::Error(to, name) if *to == serial || *to <= 2 && !self.direct => {
                    let why = message.body("s").and_then(|mut body| body.text().map(str::to_owned)).unwrap_or_default();
                    return Ok(Answer::Refused(name.clone(), why));
                }
                Received::Signal(..) => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// Waits for the end of a job, and answers its result: `done`, or how it failed.
    pub(super) fn wait_for_job(&mut self, job: &str) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.receive(end)?,
            };
            if !matches!(&message.received, Received::Signal(interface, member) if interface == MANAGER && member == "JobRemoved")
            {
                continue;
            }
            let mut body = message.body("uoss")?;
            let (_, removed, _, result) = (body.u32()?, body.text()?, body.text()?, body.text()?);
            if removed == job {
                return Ok(result.to_owned());
            }
        }
    }

    fn receive(&mut self, end: Instant) -> Result<Message> {
        loop {
            if let Some(message) = Message::take(&mut self.unread)? {
                return Ok(message);
            }
            self.read(end)?;
        }
    }

    fn read(&mut self, end: Instant) -> Result<()> {
        let what = || "read systemd's answer";
        let mut buffer = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::system(format!("systemd has not answered in {} s", PATIENCE.as_secs())));
            }
            let timeout = PollTimeout::try_from(left.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(Errno::EINTR) => continue,
                ready => ready.context(what)?,
            };
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) => return Err(Error::system("systemd has ended the connection")),
                Ok(count) => {
                    self.unread.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context(what),
            }
        }
    }
}

/// Takes the server's lines off `unread`: asked for more, which it has been sent, and then `OK`; answers whether that was there.
fn take_acceptance(unread: &mut Vec<u8>) -> Result<bool> {
    while let Some(end) = unread.windows(2).position(|pair| pair == b"\r\n") {
        let line: Vec<u8> = unread.drain(..end + 2).collect();
        match line.split(|byte| b" \r".contains(byte)).next() {
            Some(b"OK") => return Ok(true),
            Some(b"DATA") => {}
            _ => {
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                return Err(Error::system(format!("systemd does not take this user's calls: {line:?}")));
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_sockets() {
        let path = |address| bus_socket(address).map(|socket| socket.path);
        assert_eq!(path("unix:path=/run/user/7/bus,guid=12").as_deref(), Some("/run/user/7/bus"));
        assert_eq!(path("tcp:host=a;unix:guid=1,path=/a%20b").as_deref(), Some("/a b"));
        assert_eq!(path("unix:abstract=/tmp/x").as_deref(), Some("@/tmp/x"));
        assert_eq!(path("unix:path=/a%2"), None);
        assert_eq!(path("unixexec:path=ssh"), None);
    }

    #[test]
    fn a_users_manager_is_where_the_environment_says() {
        let paths = |dir: Option<&str>, address| {
            let sockets = user_sockets(dir.map(str::to_owned), address);
            sockets.map(|list| list.into_iter().map(|socket| socket.path).collect::<Vec<_>>())
        };
        assert_eq!(paths(Some("/run/user/7"), None).unwrap(), ["/run/user/7/systemd/private", "/run/user/7/bus"]);
        assert_eq!(paths(None, Some("unix:path=/a")).unwrap(), ["/a"]);
        assert!(paths(None, None).unwrap_err().to_string().contains("XDG_RUNTIME_DIR"));
    }

    #[test]
    fn the_servers_lines_end_with_its_acceptance() {
        let mut unread = b"DATA\r\nOK 0123\r\nl\x02".to_vec();
        assert!(take_acceptance(&mut unread).unwrap());
        assert_eq!(unread, b"l\x02");
        let mut half = b"DATA\r\nOK 01".to_vec();
        assert!(!take_acceptance(&mut half).unwrap());
        let refused = take_acceptance(&mut b"REJECTED EXTERNAL\r\n".to_vec()).unwrap_err();
        assert!(refused.to_string().contains("REJECTED EXTERNAL"), "{refused}");
    }
}
