//! What the supervisor and the backends have in common: a command that was started, and what can be done to it.
//!
//! Each backend has a function `start(&Job, &Choice, &Signals) -> Result<Box<dyn Started>>`. It is called in a process of
//! one thread, whose signals are held back: the command's process gives itself the mask from before with
//! [`Signals::restore_in_child`](crate::terminal::signals::Signals::restore_in_child). A program that is not there or cannot
//! be run is `Kind::ProgramNotFound` or `Kind::ProgramNotExecutable`, from `start` or from [`Started::wait`].

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::policy::Policy;
use crate::cgroup::Usage;
use crate::error::Result;
use crate::sys::child::Ending;

/// What a backend is to start: a policy in which every field has its value, and the command. The command's standard
/// descriptors are this process's own 0, 1 and 2 at that moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The effective policy.
    pub policy: Policy,
    /// The command and its arguments; not empty.
    pub command: Vec<OsString>,
    /// Its whole environment, `NAME=VALUE`.
    pub environment: Vec<String>,
    /// The caller's working directory: absolute, without symbolic links.
    pub caller_cwd: std::path::PathBuf,
    /// It is to have a terminal of its own, whose master end is for [`Started::take_terminal`]; where a backend makes none,
    /// it has the caller's.
    pub terminal: bool,
}

/// A command that runs, with all that belongs to it. Dropping it ends every process and removes what was made.
pub trait Started {
    /// Readable (`POLLIN`) when the command's first process has ended.
    fn pidfd(&self) -> BorrowedFd<'_>;

    /// Sends a signal to the command's first process.
    ///
    /// # Errors
    /// The kernel's; one that has ended is no error.
    fn signal(&mut self, signal: i32) -> Result<()>;

    /// Asks all its processes to end: SIGTERM, to all that are known, but to the first at least.
    ///
    /// # Errors
    /// As [`Started::signal`].
    fn terminate(&mut self) -> Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// The master end of a terminal that was made for it, once; it has this process's standard descriptors itself if not.
    fn take_terminal(&mut self) -> Option<OwnedFd> {
        None
    }

    /// Ends every process of it, also those that have left their parents, sessions and groups. Returns when none is left.
    ///
    /// # Errors
    /// If one cannot be ended.
    fn kill_all(&mut self) -> Result<()>;

    /// Waits for the first process; how it ended.
    ///
    /// # Errors
    /// The kernel's.
    fn wait(&mut self) -> Result<Ending>;

    /// What all of them have used; whole once [`Started::kill_all`] has returned.
    fn usage(&mut self) -> Usage;

    /// Removes what was made for it.
    ///
    /// # Errors
    /// What could not be removed.
    fn remove(self: Box<Self>) -> Result<()>;
}
