//! The sandbox: a short policy becomes the same configuration that any container has, and runs on the same engine.
//!
//! Three stages, as everywhere: a [`Policy`] is read, a backend is chosen for it and everything is decided
//! ([`backend::Choice`], a configuration or a confinement of the process), and that is carried out. What the policy asks
//! for and the chosen backend cannot enforce is an error before the command runs: never a weaker sandbox.

pub mod backend;
mod caller;
mod capabilities;
mod command;
pub mod confine;
mod decide;
pub mod engine;
pub mod environment;
mod explain;
mod export;
mod filter;
pub mod image;
mod outcome;
mod output;
mod place;
mod policy;
pub mod running;
mod runtime;
pub mod session;
pub mod spec;
mod supervise;
pub mod system;
mod tree;
pub mod view;

pub use caller::Caller;
pub use capabilities::{Capabilities, ControlGroups, LevelHere, Program};
pub use command::{Command, Running, Sandbox};
pub use decide::{decide, run};
pub use explain::explain;
pub use export::{ExportOptions, Exported, NotPacked, Packed, export};
pub use filter::{default_filter, process_filter};
pub use outcome::{FAILED, OUT_OF_MEMORY, Outcome, TIMED_OUT, UNSUPPORTED};
pub use policy::{
    Access, Amount, Bind, Cpus, Environment, Files, Level, Limits, Network, NetworkMode, Policy, Rlimit, Seccomp, Size,
    Time, Verdict,
};

/// Where procrt keeps what it can do without: `$XDG_CACHE_HOME/procrt`, or `~/.cache/procrt`.
///
/// # Errors
/// If there is neither `XDG_CACHE_HOME` nor `HOME`.
fn cache_directory() -> crate::error::Result<std::path::PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let base = base.ok_or_else(|| crate::Error::config("XDG_CACHE_HOME: neither it nor HOME names a directory"))?;
    Ok(base.join("procrt"))
}
