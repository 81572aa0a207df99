//! Bytes between our stdio and a terminal's master end, without ever blocking.

use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{read, write};

use super::raw::RawMode;
use crate::error::{Context, Result};
use crate::sys;

/// How much is on its way in one direction at most.
const BUFFER: usize = 64 * 1024;

/// What a pipe or socket that may not be made non-blocking takes at once when it says that it takes anything (`PIPE_BUF`).
const SMALL: usize = 4096;

/// A terminal's master end, our stdin and our stdout, and what is on its way between them.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    /// Held open while the container lives: when the last slave end is closed the master only reports a hangup, again
    /// and again, though the container may well open `/dev/console` later.
    slave: Option<OwnedFd>,
    /// None when there is nothing more to come.
    stdin: Option<Stream>,
    /// None when nobody reads it any more; output is then discarded, so that the container does not wait for ever.
    stdout: Option<Stream>,
    input: Buffer,
    output: Buffer,
    /// That all there was has been read from the master.
    drained: bool,
    raw: Option<RawMode>,
}

impl Relay {
    /// Begins: our terminal, if we have one, is in raw mode, and the container's has its size.
    ///
    /// # Errors
    /// As tcsetattr(3), and as opening the other end.
    pub fn begin(master: OwnedFd) -> Result<Self> {
        let slave = sys::terminal::peer(master.as_fd()).context(|| "hold the container's terminal open")?;
        // The container has closed its descriptor of this open file: nobody else sees the flag.
        let flags =
            OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL).context(|| "use the terminal's master end")?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).context(|| "use the terminal's master end")?;
        let relay = Self {
            master,
            slave: Some(slave),
            stdin: Stream::of(std::io::stdin().as_fd(), OFlag::O_RDONLY),
            stdout: Stream::of(std::io::stdout().as_fd(), OFlag::O_WRONLY),
            input: Buffer::new(),
            output: Buffer::new(),
            drained: false,
            raw: RawMode::enter()?,
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of ours.
    pub fn resize(&self) {
        fit(self.master.as_fd());
    }

    /// Goes on after we were stopped.
    pub fn resume(&self) {
        if let Some(raw) = &self.raw {
            raw.again();
        }
        self.resize();
    }

    /// Adds what there is to wait for.
    pub fn interests<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        if let Some(stdin) = self.stdin.as_ref().filter(|_| self.input.is_empty()) {
            fds.push(PollFd::new(stdin.fd.as_fd(), PollFlags::POLLIN));
        }
        if let Some(stdout) = self.stdout.as_ref().filter(|_| !self.output.is_empty()) {
            fds.push(PollFd::new(stdout.fd.as_fd(), PollFlags::POLLOUT));
        }
        let mut master = PollFlags::empty();
        master.set(PollFlags::POLLIN, !self.drained && self.output.has_room());
        master.set(PollFlags::POLLOUT, !self.input.is_empty());
        if !master.is_empty() {
            fds.push(PollFd::new(self.master.as_fd(), master));
        }
    }

    /// Moves what can be moved now; `ready` answers whether a descriptor is.
    ///
    /// # Errors
    /// If the container's terminal can be neither read nor written.
    pub fn pump(&mut self, ready: impl Fn(BorrowedFd) -> bool) -> Result<()> {
        if let Some(stdin) = self.stdin.as_ref().filter(|stdin| self.input.is_empty() && ready(stdin.fd.as_fd())) {
            match self.input.fill_once(stdin.fd.as_fd()) {
                Filled::Some | Filled::NothingNow => {}
                // A terminal that has hung up says EIO. The container is not told: a terminal has no end of file to send.
                Filled::End | Filled::Failed(_) => self.stdin = None,
            }
        }
        match self.input.empty_into(self.master.as_fd(), BUFFER) {
            Ok(()) => {}
            // Nobody is left to read.
            Err(Errno::EIO) => self.input.clear(),
            Err(errno) => return Err(errno).context(|| "write to the container's terminal"),
        }
        loop {
            self.read_master()?;
            self.write_stdout(&ready);
            // While the container lives, poll says when to go on; afterwards the master may have no more to say.
            if self.slave.is_some() || self.drained || !self.output.is_empty() {
                return Ok(());
            }
        }
    }

    fn read_master(&mut self) -> Result<()> {
        while !self.drained && self.output.has_room() {
            match self.output.fill_once(self.master.as_fd()) {
                Filled::Some => {}
                Filled::NothingNow if self.slave.is_some() => break,
                // The container hung its terminal up (vhangup(2)), as a getty does, and may open it again: so do we.
                Filled::End | Filled::Failed(Errno::EIO) if self.slave.is_some() => {
                    let slave = sys::terminal::peer(self.master.as_fd());
                    self.slave = Some(slave.context(|| "hold the container's terminal open")?);
                    break;
                }
                // With the container gone, whatever it wrote can be read by now: the kernel brings all written bytes
                // over before it says that there are none.
                Filled::NothingNow | Filled::End | Filled::Failed(Errno::EIO) => self.drained = true,
                Filled::Failed(errno) => return Err(errno).context(|| "read from the container's terminal"),
            }
        }
        Ok(())
    }

    fn write_stdout(&mut self, ready: impl Fn(BorrowedFd) -> bool) {
        let Some(stdout) = &self.stdout else { return self.output.clear() };
        if !stdout.never_blocks && !ready(stdout.fd.as_fd()) {
            return;
        }
        let chunk = if stdout.never_blocks { BUFFER } else { SMALL };
        if let Err(errno) = self.output.empty_into(stdout.fd.as_fd(), chunk) {
            // That whoever read it went away is theirs to know.
            if !matches!(errno, Errno::EPIPE | Errno::EIO) {
                log::warn!("write the container's output: {}; the rest is discarded", errno.desc());
            }
            self.stdout = None;
            self.output.clear();
        }
    }

    /// The container's process has ended: no more input, and the output comes to an end.
    pub fn ended(&mut self) {
        self.slave = None;
        self.stdin = None;
        self.input.clear();
    }

    /// Whether every byte of a container that has ended is where it belongs.
    pub fn is_done(&self) -> bool {
        self.drained && self.output.is_empty()
    }
}

/// Gives the container's terminal, by its master end, the size of ours; it keeps its own if we have none. Whoever has a
/// container in the foreground calls this before its program starts, which may look at the size at once.
pub fn fit(master: BorrowedFd) {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let ours = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    if let Some(size) = ours.into_iter().find_map(|fd| sys::terminal::window_size(fd).ok()) {
        // Setting a size cannot fail on a master end.
        let _ = sys::terminal::set_window_size(master, size);
    }
}

/// One of our own standard streams.
#[derive(Debug)]
pub struct Stream {
    fd: OwnedFd,
    never_blocks: bool,
}

impl Stream {
    /// Another way to `fd`, one of our standard streams, that is opened as `access` says; none if it is closed.
    ///
    /// `O_NONBLOCK` belongs to an open file, which we share with the shell and others; so terminals and pipes are opened
    /// anew where that is possible. What cannot be is used only when poll says so and in pieces that fit.
    pub fn of(fd: BorrowedFd, access: OFlag) -> Option<Self> {
        let kind = SFlag::from_bits_truncate(fstat(fd).ok()?.st_mode) & SFlag::S_IFMT;
        let waits = matches!(kind, SFlag::S_IFIFO | SFlag::S_IFSOCK) || fd.is_terminal();
        if waits && kind != SFlag::S_IFSOCK {
            let through = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            if let Ok(fd) = open(through.as_str(), flags, Mode::empty()) {
                return Some(Self { fd, never_blocks: true });
            }
        }
        Some(Self { fd: fd.try_clone_to_owned().ok()?, never_blocks: !waits })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What reading once came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Filled {
    Some,
    NothingNow,
    End,
    Failed(Errno),
}

/// Bytes on their way: read at `end`, written from `start`.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty one.
    #[allow(clippy::new_without_default)] // it takes much memory
    pub fn new() -> Self {
        Self { bytes: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn has_room(&self) -> bool {
        self.end < self.bytes.len()
    }

    /// Throws away what is on its way.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Reads what fits, once.
    pub fn fill_once(&mut self, from: BorrowedFd) -> Filled {
        loop {
            match read(from, &mut self.bytes[self.end..]) {
                Ok(0) => return Filled::End,
                Ok(count) => {
                    self.end += count;
                    return Filled::Some;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Filled::NothingNow,
                Err(errno) => return Filled::Failed(errno),
            }
        }
    }

    /// How much is on its way.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Throws away all but the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    /// Writes what is taken now to one of our own streams, which poll has said to be ready; nothing is left if nobody reads
    /// it.
    ///
    /// # Errors
    /// As write(2); `EPIPE` if nobody reads it.
    pub fn empty_into_stream(&mut self, to: &Stream) -> std::result::Result<(), Errno> {
        self.empty_into(to.fd.as_fd(), if to.never_blocks { BUFFER } else { SMALL })
    }

    /// Writes all that is taken now: all of it if `chunk` is the whole, else one chunk.
    fn empty_into(&mut self, to: BorrowedFd, chunk: usize) -> std::result::Result<(), Errno> {
        while !self.is_empty() {
            let end = self.end.min(self.start + chunk);
            match write(to, &self.bytes[self.start..end]) {
                Ok(count) => self.start += count,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
            if chunk < BUFFER {
                break;
            }
        }
        if self.is_empty() {
            self.clear();
        }
        Ok(())
    }
}
