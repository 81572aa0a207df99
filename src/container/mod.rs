//! The host's side of a container: its store, its states, and the commands on it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// Where the containers of one runtime root are kept (`--root`).
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at `root`; the directory is made when the first container is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory that holds one directory per container.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// What `create` and `run` take beside the bundle's configuration.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The container's id.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// An AF_UNIX socket that is sent the terminal's master end.
    pub console_socket: Option<PathBuf>,
    /// An AF_UNIX socket that is sent a pidfd of the container's first process.
    pub pidfd_socket: Option<PathBuf>,
    /// A file that the first process's pid is written to.
    pub pid_file: Option<PathBuf>,
    /// `MS_MOVE` and `chroot` instead of `pivot_root`, for a root on a ramdisk.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on the container's process gets.
    pub preserve_fds: u32,
    /// Ask systemd for the control group.
    pub systemd_cgroup: bool,
}

/// How `run` goes on once the container is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// Return as soon as the container runs.
    pub detach: bool,
    /// Keep the container's state when it has ended.
    pub keep: bool,
    /// Become a subreaper and reap every process of the container that is left to procrt (`--no-subreaper` unset).
    pub subreaper: bool,
}

/// A container's status. `Paused` is runc's addition to the specification's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work, or was killed at it.
    Creating,
    /// The process waits for `start`.
    Created,
    /// The process runs.
    Running,
    /// The process is frozen.
    Paused,
    /// The process has ended.
    Stopped,
}

/// What `state` prints: the specification's state and runc's fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The specification's version that the state complies with.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// The first process's pid as the host sees it; 0 when it has ended.
    pub pid: i32,
    /// The status.
    pub status: Status,
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The root file system's absolute path.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339 in UTC with nanoseconds.
    pub created: String,
    /// The annotations of the configuration.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
    /// The name of the user that created it.
    pub owner: String,
}

fn unwritten() -> Error {
    Error::unsupported("being written")
}

/// Creates a container whose process waits for [`start`].
pub fn create(_store: &Store, _options: &CreateOptions) -> Result<()> {
    Err(unwritten())
}

/// Lets a created container's process run.
pub fn start(_store: &Store, _id: &str) -> Result<()> {
    Err(unwritten())
}

/// Creates and starts a container; in the foreground, waits for it and answers its exit status (128 + signal if killed).
pub fn run(_store: &Store, _options: &CreateOptions, _run: RunOptions) -> Result<i32> {
    Err(unwritten())
}

/// Sends `signal` to a container's first process, or with `all` to every process of its cgroup.
pub fn kill(_store: &Store, _id: &str, _signal: i32, _all: bool) -> Result<()> {
    Err(unwritten())
}

/// Removes a stopped container; with `force`, any container, and no error when there is none.
pub fn delete(_store: &Store, _id: &str, _force: bool) -> Result<()> {
    Err(unwritten())
}

/// The state of one container.
pub fn state(_store: &Store, _id: &str) -> Result<Report> {
    Err(unwritten())
}

/// The states of all containers, by id.
pub fn list(_store: &Store) -> Result<Vec<Report>> {
    Err(unwritten())
}
