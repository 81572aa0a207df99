//! The options that stand before the command.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};

use crate::container::{CgroupManager, Missing, Store};
use crate::error::{Context, Result};
use crate::host::caller::{Caller, in_initial_user_namespace};

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Who makes the control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Manager {
    Cgroupfs,
    Systemd,
    Disabled,
}

/// Whether a container can do without a control group.
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

impl From<Rootless> for Option<bool> {
    fn from(rootless: Rootless) -> Self {
        match rootless {
            Rootless::True => Some(true),
            Rootless::False => Some(false),
            Rootless::Auto => None,
        }
    }
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
    #[arg(long, overrides_with = "cgroup_manager")]
    systemd_cgroup: bool,

    /// Who makes the control groups: cgroupfs (procrt itself, the default), systemd (as --systemd-cgroup), or disabled:
    /// nobody. Then the container has none, whatever linux.cgroupsPath says: it stays in procrt's own, limits are refused,
    /// and linux.resources.devices holds nothing back
    #[arg(long, value_name = "WHO", value_enum, overrides_with = "systemd_cgroup")]
    #[arg(hide_possible_values = true)]
    cgroup_manager: Option<Manager>,

    /// Do without a control group where config.json names none, asks for no limits, and this user may not make one:
    /// true, false (that is an error then), or auto (the default), which is true without root of the host
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

/// Where root's containers are kept.
const SYSTEM_ROOT: &str = "/run/procrt";

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

    /// Who makes the container's control groups: of two options, the last says.
    pub fn cgroup_manager(&self) -> CgroupManager {
        match self.cgroup_manager {
            Some(Manager::Disabled) => CgroupManager::Nobody,
            Some(Manager::Systemd) => CgroupManager::Systemd,
            None if self.systemd_cgroup => CgroupManager::Systemd,
            Some(Manager::Cgroupfs) | None => CgroupManager::Procrt,
        }
    }

    /// The store of containers, at an absolute path.
    ///
    /// # Errors
    /// `Kind::System` if `--root` is relative and there is no working directory.
    pub fn store(&self) -> Result<Store> {
        let root = match &self.root {
            Some(root) => std::path::absolute(root).context(|| format!("find the root {root:?}"))?,
            None => return default_store(),
        };
        Ok(Store::new(root))
    }
}

/// Where containers are kept if nobody says: `/run/procrt`, or in the user's runtime directory for who is not root of the
/// host. Root in a user namespace can be somebody's who is root there alone, or of a whole system: as other runtimes do, the
/// name in `USER` tells.
fn default_store() -> Result<Store> {
    let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()) else {
        return Ok(Store::new(SYSTEM_ROOT));
    };
    let of_user = Caller::find()?.uid != 0
        || std::env::var_os("USER").is_none_or(|user| user != "root") && !in_initial_user_namespace()?;
    Ok(if of_user { Store::in_runtime_dir(&dir) } else { Store::new(SYSTEM_ROOT) })
}
