//! Who asks for a sandbox: what of this process counts when a policy is filled in. A value, so that deciding reads nothing.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::error::{Context, Result};

/// The caller of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The working directory: absolute, without symbolic links.
    pub cwd: PathBuf,
    /// The home directory that the environment names, if it is an absolute path: without symbolic links.
    pub home: Option<PathBuf>,
    /// Standard input is a terminal.
    pub terminal: bool,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
}

impl Caller {
    /// This process as the caller.
    ///
    /// # Errors
    /// If it has no working directory.
    pub fn this_process() -> Result<Self> {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        Ok(Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            cwd: nix::unistd::getcwd().context(|| "find the working directory")?,
            home: home.and_then(|home| home.canonicalize().ok()),
            terminal: std::io::stdin().is_terminal(),
            variables: std::env::vars_os().collect(),
        })
    }

    /// Whether it is root.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }
}
