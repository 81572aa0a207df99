//! Which way a policy is enforced, and what that way can do: a value that is decided, shown, and then kept to.

mod choose;
mod groups;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::policy::Level;
pub(super) use choose::{SIGNALS, find as find_program};
pub use choose::{choose, possible};
pub(super) use groups::limits as group_limits;

/// What carries a policy out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "name")]
pub enum Backend {
    /// The process itself: landlock, a filter, limits; with level `off`, limits alone.
    Process,
    /// procrt's own engine: a container.
    Engine,
    /// Another OCI runtime, on a generated bundle.
    Runtime {
        /// Its program.
        path: PathBuf,
    },
}

/// Something that a policy can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// A limit of memory for all processes together.
    Memory,
    /// A limit of swap.
    Swap,
    /// A share of processors.
    Cpus,
    /// A limit of processes for the sandbox alone.
    Pids,
    /// Bandwidth of block devices.
    Io,
    /// A limit of time that ends every process, also one that hides from its parent.
    Timeout,
    /// Limits of setrlimit(2).
    Rlimits,
    /// A limit of output.
    Output,
    /// Only the files that are named can be reached.
    Files,
    /// A private /tmp, /dev and root.
    PrivateRoot,
    /// Paths shown at other places (`PATH:DEST`).
    Destinations,
    /// Writes that are thrown away (`overlay`).
    Overlay,
    /// A root file system of the user's.
    Rootfs,
    /// Other processes cannot be seen, signalled or traced.
    Processes,
    /// No network.
    Network,
    /// A loopback interface alone, of its own.
    Loopback,
    /// Connections to named TCP ports alone.
    TcpPorts,
    /// A filter of system calls.
    Seccomp,
    /// Ids other than the caller's.
    User,
    /// A kernel of its own.
    Kernel,
}

/// The backend for a policy on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What carries the policy out.
    #[serde(flatten)]
    pub backend: Backend,
    /// The level that it stands for.
    pub level: Level,
    /// Why this one: a sentence.
    pub reason: String,
    /// What it enforces here.
    pub enforces: BTreeSet<Ability>,
    /// What it cannot enforce here, each with the reason.
    pub cannot: Vec<(Ability, String)>,
}

/// A level as it is written.
pub(super) fn word(level: Level) -> String {
    serde_json::to_value(level).unwrap_or_default().to_string()
}

/// Why a level does not do a thing that nothing more is to be said of.
fn beyond(level: Level) -> String {
    format!("level {} does not do that (a higher one may)", word(level))
}
