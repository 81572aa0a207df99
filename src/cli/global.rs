//! The options that stand before the command.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};

use crate::container::{Missing, Store};
use crate::error::{Context, Result};

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Whether refusals of the control group's files to an ordinary user are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rootless {
    True,
    False,
    Auto,
}

/// What becomes of labels for security modules that this kernel does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MissingLsm {
    Error,
    Warn,
}

impl From<MissingLsm> for Missing {
    fn from(what: MissingLsm) -> Self {
        match what {
            MissingLsm::Error => Self::Refused,
            MissingLsm::Warn => Self::LeftOut,
        }
    }
}

/// An OCI container runtime for Linux.
///
/// procrt makes containers from bundles, directories with a config.json and a root file system, as the runtime
/// specification of the Open Container Initiative defines them. Its command line is runc's, so that Docker, containerd,
/// Podman, CRI-O and Buildah can use it in runc's place.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Global {
    /// Keep containers' state in DIR, best on a tmpfs [default: /run/procrt, or without root
    /// $XDG_RUNTIME_DIR/procrt]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Append log messages to FILE; errors go to standard error too
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Write log messages as lines of text (the default) or json
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub log_format: LogFormat,

    /// Log what is done, step by step
    #[arg(long)]
    pub debug: bool,

    /// Have systemd make the control groups: linux.cgroupsPath is then SLICE:PREFIX:NAME
    #[arg(long)]
    pub systemd_cgroup: bool,

    /// Pass over control group files that may not be written: false and auto (the default) never do, true is not
    /// supported yet
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub rootless: Rootless,

    /// What to do with an AppArmor profile or SELinux label that config.json or an option asks for where this kernel
    /// has no such security module: error refuses (the default); warn leaves it out with a warning. With warn, what
    /// was to be confined runs without that confinement: it is for bundles moved here from another host
    #[arg(long, value_name = "WHAT", value_enum, default_value = "error")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub missing_lsm: MissingLsm,

    /// Accepted for runc's callers: there is no checkpoint to use it for.
    #[arg(long, value_name = "PATH", hide = true)]
    criu: Option<String>,

    /// Print the version, and the specification's
    #[arg(long, short = 'v')]
    pub version: bool,
}

const EXAMPLES: &str = "\
Examples:
  procrt spec                          Write a config.json that runs sh in ./rootfs
  procrt run shell                     Run it as the container \"shell\", in this terminal
  procrt create --bundle /b web        Create a container whose process waits…
  procrt start web                     …and let it run
  procrt kill web TERM                 Send its first process a signal
  procrt delete --force web            Remove it, running or not
  procrt list                          See what is there

procrt COMMAND --help tells more of each command.";

/// The global options, described to clap.
pub fn describe() -> clap::Command {
    Global::augment_args(clap::Command::new(super::PROGRAM))
        .no_binary_name(true)
        .args_override_self(true)
        .max_term_width(100)
}

impl Global {
    /// What was parsed.
    pub fn from_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        Self::from_arg_matches(matches)
    }

    /// The store of containers, at an absolute path.
    ///
    /// # Errors
    /// `Kind::System` if `--root` is relative and there is no working directory.
    pub fn store(&self) -> Result<Store> {
        let root = match &self.root {
            Some(root) => std::path::absolute(root).context(|| format!("find the root {root:?}"))?,
            None => default_root(nix::unistd::geteuid().is_root(), std::env::var_os("XDG_RUNTIME_DIR").map(Into::into)),
        };
        Ok(Store::new(root))
    }
}

/// Where containers are kept if nobody says.
fn default_root(superuser: bool, runtime_dir: Option<PathBuf>) -> PathBuf {
    match runtime_dir.filter(|dir| !superuser && dir.is_absolute()) {
        Some(dir) => dir.join("procrt"),
        None => "/run/procrt".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_users_own_only_without_root() {
        assert_eq!(default_root(true, Some("/run/user/0".into())), PathBuf::from("/run/procrt"));
        assert_eq!(default_root(false, Some("/run/user/7".into())), PathBuf::from("/run/user/7/procrt"));
        assert_eq!(default_root(false, Some("".into())), PathBuf::from("/run/procrt"));
        assert_eq!(default_root(false, None), PathBuf::from("/run/procrt"));
    }
}
