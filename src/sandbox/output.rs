//! Output that is limited: the command writes to pipes, and what is beyond the limit is thrown away, so that it neither
//! fills whatever reads it nor waits for ever.

use std::io::pipe;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::unistd::{dup2_stderr, dup2_stdout};

use crate::error::{Context, Result};
use crate::terminal::relay::{Buffer, Filled, Stream};

/// Both streams of a command, with one limit.
#[derive(Debug)]
pub struct Output {
    ways: [Way; 2],
    /// How many bytes may pass yet.
    left: u64,
    truncated: bool,
}

/// One stream.
#[derive(Debug)]
struct Way {
    /// None when it has come to its end.
    from: Option<OwnedFd>,
    /// None when nobody reads it any more.
    to: Option<Stream>,
    buffer: Buffer,
}

/// While it lives, this process's standard output and error are the pipes' other ends, for the command to have.
#[derive(Debug)]
pub struct Replaced {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Output {
    /// Puts the pipes in the place of standard output and error; at most `limit` bytes pass.
    ///
    /// # Errors
    /// As pipe(2) and dup(2).
    pub fn begin(limit: u64) -> Result<(Self, Replaced)> {
        let what = || "limit the output";
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let mut ends = Vec::with_capacity(2);
        let mut way = |ours: BorrowedFd| {
            let (from, end) = pipe()?;
            fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            ends.push(OwnedFd::from(end));
            Ok::<_, crate::Error>(Way {
                from: Some(from.into()),
                to: Stream::of(ours, OFlag::O_WRONLY),
                buffer: Buffer::new(),
            })
        };
        let ways = [way(stdout.as_fd()).context(what)?, way(stderr.as_fd()).context(what)?];
        let former = Replaced {
            stdout: stdout.as_fd().try_clone_to_owned().context(what)?,
            stderr: stderr.as_fd().try_clone_to_owned().context(what)?,
        };
        dup2_stdout(&ends[0]).context(what)?;
        dup2_stderr(&ends[1]).context(what)?;
        Ok((Self { ways, left: limit, truncated: false }, former))
    }

    /// Adds what there is to wait for.
    pub fn interests<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        for way in &self.ways {
            match (&way.from, &way.to) {
                (_, Some(to)) if !way.buffer.is_empty() => fds.push(PollFd::new(to.as_fd(), PollFlags::POLLOUT)),
                (Some(from), _) => fds.push(PollFd::new(from.as_fd(), PollFlags::POLLIN)),
                _ => {}
            }
        }
    }

    /// Moves what can be moved now; `ready` answers whether a descriptor is.
    pub fn pump(&mut self, ready: impl Fn(BorrowedFd) -> bool) {
        for way in &mut self.ways {
            if let Some(from) = way.from.as_ref().filter(|from| way.buffer.is_empty() && ready(from.as_fd())) {
                match way.buffer.fill_once(from.as_fd()) {
                    Filled::Some => {
                        let length = way.buffer.len() as u64;
                        self.truncated |= length > self.left;
                        way.buffer.truncate(self.left.min(length) as usize);
                        self.left = self.left.saturating_sub(length);
                    }
                    Filled::NothingNow => {}
                    Filled::End | Filled::Failed(_) => way.from = None,
                }
            }
            if let Some(to) = way.to.as_ref().filter(|to| !way.buffer.is_empty() && ready(to.as_fd()))
                && let Err(errno) = way.buffer.empty_into_stream(to)
            {
                // That whoever read it went away is theirs to know.
                if errno != Errno::EPIPE {
                    log::warn!("write the command's output: {}; the rest is thrown away", errno.desc());
                }
                way.to = None;
            }
            if way.to.is_none() {
                way.buffer.clear();
            }
        }
    }

    /// Whether every byte that may pass has, of a command that has ended.
    pub fn is_done(&self) -> bool {
        self.ways.iter().all(|way| way.from.is_none() && way.buffer.is_empty())
    }

    /// Stops waiting for whoever reads it.
    pub fn abandon(&mut self) {
        for way in &mut self.ways {
            way.from = None;
            way.buffer.clear();
        }
    }

    /// Whether something was thrown away because of the limit.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        debug_assert!(self.stdout.as_raw_fd() > 2 && self.stderr.as_raw_fd() > 2);
        // The descriptors are open: the system has no reason to refuse.
        let _ = dup2_stdout(&self.stdout);
        let _ = dup2_stderr(&self.stderr);
    }
}
