//! Terminals of a test's: one that a container's procrt is in the foreground of, and one that a console socket is sent.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procrt::terminal::console::receive_fd;
use serde_json::json;

use super::{Bundle, LIMIT, Outcome};

/// The driving end of a terminal.
#[derive(Debug)]
pub struct Terminal {
    pub master: File,
    said: String,
}

impl Terminal {
    pub fn new(master: OwnedFd) -> Self {
        Self { master: master.into(), said: String::new() }
    }

    #[track_caller]
    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until the terminal has said `text`, and forgets it and what came before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.said.find(text) {
                let rest = self.said.split_off(at + text.len());
                return std::mem::replace(&mut self.said, rest);
            }
            assert!(Instant::now() < end && self.read_some(), "{text:?} is not in {:?}", self.said);
        }
    }

    /// All that is said up to the end.
    pub fn rest(&mut self) -> String {
        while self.read_some() {}
        std::mem::take(&mut self.said)
    }

    /// Reads what there is; nothing more comes if `false`.
    pub fn read_some(&mut self) -> bool {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        assert_ne!(poll(&mut fds, PollTimeout::try_from(LIMIT).unwrap()), Ok(0), "silent after {:?}", self.said);
        let mut bytes = [0; 4096];
        // The last holder of the other end being gone is EIO.
        let count = self.master.read(&mut bytes).unwrap_or(0);
        self.said.push_str(&String::from_utf8_lossy(&bytes[..count]));
        count > 0
    }
}

/// A bundle whose container has a terminal, says that it is up, and does what it is told line by line. An interactive
/// shell would edit and echo lines by itself, at times beside the terminal's own echo.
pub fn shell() -> Bundle {
    Bundle::new("echo up; while read -r line; do eval \"$line\"; done").set("/process/terminal", json!(true))
}

/// A socket that takes what `--console-socket` sends.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    path: std::path::PathBuf,
}

impl ConsoleSocket {
    pub fn new(bundle: &Bundle) -> Self {
        let path = bundle.join("console.sock");
        Self { listener: UnixListener::bind(&path).unwrap(), path }
    }

    pub fn option(&self) -> [&str; 2] {
        ["--console-socket", self.path.to_str().unwrap()]
    }

    /// The terminal of [`shell`]. The sender has ended, so that what it sent is there.
    #[track_caller]
    pub fn receive(&self) -> Terminal {
        self.listener.set_nonblocking(true).unwrap();
        let (connection, _) = self.listener.accept().unwrap();
        let (master, name) = receive_fd(connection.as_fd()).unwrap();
        assert_eq!(name, "/dev/ptmx");
        Terminal::new(master)
    }
}

/// procrt in the foreground of a terminal of the test's, started by a shell that says its exit status and the
/// terminal's modes when it has ended.
#[derive(Debug)]
pub struct Foreground {
    pub terminal: Terminal,
    pub slave: OwnedFd,
    shell: std::process::Child,
}

impl Foreground {
    /// `run` of the bundle.
    pub fn run(bundle: &Bundle) -> Self {
        Self::of(&bundle.making("run", &[]))
    }

    /// What `call` calls, in the foreground of the terminal.
    pub fn of(call: &Command) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        for end in [&pty.master, &pty.slave] {
            // With a master of its own, procrt would never see the terminal hang up.
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        stty(&pty.slave, &["rows", "24", "cols", "80"]);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "sh", "-c", "\"$@\"; echo status=$?; stty -a; echo over", "sh"]);
        command.arg(call.get_program()).args(call.get_args());
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let shell = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { terminal: Terminal::new(pty.master), slave: pty.slave, shell }
    }

    /// Waits for the end: the exit status, what was said since the last that was expected, and the modes.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String, String) {
        let said = self.terminal.expect("status=");
        let status = self.terminal.expect("\r\n").trim_end().parse().unwrap();
        let modes = self.terminal.expect("over\r\n");
        self.shell.wait().unwrap();
        (status, said.strip_suffix("status=").unwrap().to_owned(), modes)
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Calls stty on a terminal.
pub fn stty(terminal: &OwnedFd, args: &[&str]) -> String {
    let mut command = Command::new("stty");
    Outcome::of(command.args(args).stdin(terminal.try_clone().unwrap())).ok()
}

/// The terminal behaves as people expect a terminal to.
#[track_caller]
pub fn assert_cooked(modes: &str) {
    for mode in ["icanon", "echo", "isig", "opost"] {
        assert!(modes.contains(&format!(" {mode} ")) || modes.contains(&format!("\n{mode} ")), "{mode}: {modes}");
    }
}
