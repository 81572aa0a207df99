//! The host's side of a container: its store, its states, and the commands on it.

mod attend;
mod create;
mod delete;
mod events;
mod exec;
mod exec_plan;
mod kill;
pub mod own_binary;
mod pause;
pub mod plan;
mod readiness;
mod record;
mod start;
mod store;
mod update;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

pub use attend::{Attended, Given, sweep};
pub use delete::delete;
pub use events::{Event, events, stats};
pub use exec::{Joined, exec, join};
pub use exec_plan::{ExecOptions, parse_user};
pub use kill::kill;
pub use pause::{pause, processes, resume};
pub use readiness::{Manager, NOTIFY_SOCKET};
pub use record::ProcessId;
pub use start::{run, start};
pub use store::Store;
pub use update::{Shares, update};

use crate::error::{Error, Kind, Result};
pub use crate::host::lsm::Missing;
pub use crate::process::Activation;

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
    /// What a service manager has passed to procrt and the container's process is to have.
    pub activation: Option<Activation>,
    /// Where the directory of the socket for the process's messages will be, absolute: below the container's own. None if
    /// nobody waits for messages.
    pub notify_directory: Option<PathBuf>,
    /// Who makes the control group.
    pub cgroup_manager: CgroupManager,
    /// Whether a configuration that names no control group and asks for no limits can do without one, where this user may
    /// not make it (`--rootless`); None: unless this user is root of the host.
    pub rootless: Option<bool>,
    /// What becomes of labels for security modules that are not at work.
    pub missing_lsm: Missing,
}

/// Who makes a container's control group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupManager {
    /// procrt, by making directories.
    #[default]
    Procrt,
    /// systemd: it is a scope's.
    Systemd,
    /// Nobody: the container has none.
    Nobody,
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
    /// Who is told when the container is ready.
    pub manager: Option<Manager>,
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
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The name of the user that created it.
    pub owner: String,
}

/// Creates a container whose process waits for [`start`].
///
/// # Errors
/// Everything wrong in the configuration together, or the step that failed; nothing of the container is left then.
pub fn create(store: &Store, options: &CreateOptions) -> Result<()> {
    create::create(store, options, create::Start::Later).map(|_| ())
}

/// The state of one container.
///
/// # Errors
/// [`Kind::NotFound`] if there is none.
pub fn state(store: &Store, id: &str) -> Result<Report> {
    let entry = store.find(id)?;
    let record = entry.read()?.ok_or_else(|| Error::new(Kind::State, format!("{id:?}: container is being created")))?;
    record.report(&entry)
}

/// The states of all containers, by id. One that goes away meanwhile is left out, and one that cannot be read is logged.
///
/// # Errors
/// If the store cannot be read.
pub fn list(store: &Store) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for id in store.ids()? {
        match state(store, &id) {
            Ok(report) => reports.push(report),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::State) => {}
            // One that cannot be read does not hide the others.
            Err(error) => log::error!("{error}"),
        }
    }
    Ok(reports)
}
