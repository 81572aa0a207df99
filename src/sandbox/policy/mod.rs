//! What a sandbox allows: one value, whether it came from options, from a file or from a program.
//!
//! A policy says what is wanted, and leaves open what is not: an empty one is sensible. What an open field becomes at a
//! level is that level's business ([`Policy::effective`]); what is asked for and cannot be enforced is refused before
//! anything runs.

mod check;
mod effective;
mod load;
mod schema;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use check::ids;
pub use values::{Amount, Cpus, Size, Time};

/// A sandbox's policy: the fields of a policy file, and the options of `procrt sandbox run`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How strong the confinement is (`--level`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The filter of system calls (`--seccomp`): `default`, `none`, or a profile's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// Another OCI runtime that is to run it (`--runtime`): a path, or a name to be looked for in PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<PathBuf>,
    /// More arguments for that runtime, before its command (`--runtime-arg`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
    /// How much it may use.
    pub limits: Limits,
    /// What it sees of files.
    pub files: Files,
    /// What it reaches of the network.
    pub network: Network,
    /// The ids that it has inside (`--user`): `UID[:GID]`, numbers. Its own there are the caller's ids if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What is in its environment.
    pub environment: Environment,
}

/// How strong the confinement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// None: limits alone. Never chosen, always spelled out.
    Off,
    /// The process itself is confined, by landlock, a filter of system calls, limits and no new privileges: needs nothing.
    Default,
    /// Namespaces of its own, a root of its own made of the host's system directories, a control group. What is taken if
    /// no level is named and no root file system either.
    Enhanced,
    /// As `enhanced`, with a root file system of the user's.
    Container,
    /// An OCI runtime with a kernel of its own.
    Maximum,
}

/// The filter of system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Seccomp {
    /// The sandbox's own.
    Default,
    /// None.
    None,
    /// An OCI or Docker profile in this file.
    File(PathBuf),
}

impl From<String> for Seccomp {
    fn from(text: String) -> Self {
        match text.as_str() {
            "default" => Self::Default,
            "none" => Self::None,
            _ => Self::File(text.into()),
        }
    }
}

impl From<Seccomp> for String {
    fn from(seccomp: Seccomp) -> Self {
        match seccomp {
            Seccomp::Default => "default".to_owned(),
            Seccomp::None => "none".to_owned(),
            Seccomp::File(path) => path.display().to_string(),
        }
    }
}

/// How much a sandbox may use, all its processes together. A limit that is left open has the level's default where that can
/// be enforced; one that is asked for is enforced or refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory (`--memory`), what is written to tmpfs included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Swap beside the memory (`--swap`); none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<Size>,
    /// Processors (`--cpus`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Processes and threads (`--pids`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Bytes a second read from, and as many written to, each block device that holds one of its paths (`--io-bps`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_bps: Option<Size>,
    /// Wall-clock time (`--timeout`), after which it gets SIGTERM, and after `grace` SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
    /// The time between SIGTERM and SIGKILL (`--grace`); 1 s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Time>,
    /// Bytes of standard output and standard error together (`--output-limit`); what is more is thrown away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Size>,
    /// The size of each tmpfs that it can write to (`--tmpfs-size`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_size: Option<Size>,
    /// Limits of setrlimit(2), each process's own (`--rlimit NAME=AMOUNT`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::rlimits")]
    pub rlimits: BTreeMap<Rlimit, Amount>,
}

/// A resource of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rlimit {
    /// Address space, in bytes.
    As,
    /// A core file, in bytes.
    Core,
    /// Processor time, in seconds.
    Cpu,
    /// Data segments, in bytes.
    Data,
    /// A file, in bytes.
    Fsize,
    /// Locked memory, in bytes.
    Memlock,
    /// Open descriptors.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// The stack, in bytes.
    Stack,
}

/// What a sandbox sees of the host's files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Paths to read and execute (`--ro PATH[:DEST]`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ro: Vec<Bind>,
    /// Paths to read, execute and write (`--rw PATH[:DEST]`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rw: Vec<Bind>,
    /// Paths as the sandbox sees them that it must not reach (`--deny PATH`), whatever else is said of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<PathBuf>,
    /// Paths to read, where what is written is thrown away at the end (`--overlay PATH[:DEST]`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlay: Vec<Bind>,
    /// A directory whose copy is at `/workspace`, and thrown away at the end (`--workspace`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<PathBuf>,
    /// A directory that is at `/out`, writable (`--out`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// A root file system instead of the host's system directories (`--rootfs`), read-only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<PathBuf>,
    /// The working directory inside (`--cwd`). `/workspace` if there is one, `/` with a root file system of its own, and else
    /// the caller's, which is writable if it is left open; a private one where that is the system's or a home directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Whether home directories are out of sight but for what is named here (`--hide-home`); they are by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hide_home: Option<bool>,
}

/// A path of the host's, and where the sandbox sees it: `SOURCE[:DESTINATION]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Bind {
    /// The path on the host.
    pub source: PathBuf,
    /// The path in the sandbox, absolute; the same if None.
    pub destination: Option<PathBuf>,
}

impl TryFrom<String> for Bind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (source, destination) = match text.split_once(':') {
            None => (text.as_str(), None),
            Some((source, destination)) => (source, Some(PathBuf::from(destination))),
        };
        match &destination {
            _ if source.is_empty() => Err(format!("{text:?} names no path")),
            Some(path) if !path.is_absolute() => Err(format!("{text:?}: the path in the sandbox is not absolute")),
            Some(path) if path.to_string_lossy().contains(':') => Err(format!("{text:?} has more than one colon")),
            _ => Ok(Self { source: source.into(), destination }),
        }
    }
}

impl std::str::FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl From<Bind> for String {
    fn from(bind: Bind) -> Self {
        match bind.destination {
            None => bind.source.display().to_string(),
            Some(destination) => format!("{}:{}", bind.source.display(), destination.display()),
        }
    }
}

/// What a sandbox reaches of the network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Which network it has (`--network`); none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<NetworkMode>,
    /// With the host's network: the only TCP ports that it may connect to (`--allow-tcp PORT`), by landlock's rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_tcp: Vec<u16>,
}

/// Which network a sandbox has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// No network, not even a loopback interface that is up.
    None,
    /// A loopback interface of its own.
    Loopback,
    /// The host's.
    Host,
}

/// What is in a sandbox's environment: constants and what is named here, nothing else of the caller's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Environment {
    /// Variables (`--env NAME=VALUE`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Names of the caller's variables that are passed on (`--pass-env NAME`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pass: Vec<String>,
    /// Names that may be there although they look like secrets (`--allow-secret-env NAME`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_secret: Vec<String>,
}
