//! `procrt create`.

use std::path::PathBuf;

use super::Run;
use super::global::Global;
use crate::bundle::check_id;
use crate::container::{self, Activation, CreateOptions, Manager};
use crate::error::{Error, Result};

/// Create a container, whose process waits for start
///
/// Makes a container from a bundle: its control group, namespaces and root file system are there, and its process waits
/// for `procrt start`. If that fails, nothing of the container is left.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt create web                        From the bundle in this directory
  procrt create --bundle /b --pid-file web.pid web
")]
pub struct Args {
    #[command(flatten)]
    options: Options,
}

/// What `create` and `run` have in common.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The new container's id: letters, digits and _ + . -, at most 1024
    #[arg(value_name = "ID")]
    id: String,

    /// The bundle: the directory of config.json [default: this directory]
    #[arg(long, short, value_name = "DIR", default_value = ".", hide_default_value = true)]
    bundle: PathBuf,

    /// Send the terminal's master end to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,

    /// Send a pidfd of the container's process to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,

    /// Write the pid of the container's process to FILE
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// Do without pivot_root(2), for a root file system on a ramdisk
    #[arg(long)]
    no_pivot: bool,

    /// Leave the container's process in the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,

    /// Pass N more descriptors to the container, those from 3 on
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
}

impl Options {
    /// What the container's maker takes.
    ///
    /// # Errors
    /// `Kind::Config` for an id that is none.
    pub fn resolve(self, global: &Global) -> Result<CreateOptions> {
        check_id(&self.id)?;
        let activation = activation()?;
        let notify = activation.as_ref().is_some_and(|activation| activation.notify_socket.is_some());
        let notify_directory =
            notify.then(|| global.store().map(|store| store.notify_directory(&self.id))).transpose()?;
        Ok(CreateOptions {
            id: self.id,
            bundle: self.bundle,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            pid_file: self.pid_file,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            activation,
            notify_directory,
            cgroup_manager: global.cgroup_manager(),
            rootless: global.rootless.into(),
            missing_lsm: global.missing_lsm.into(),
        })
    }
}

/// What the service manager that has started procrt, if one has, means for the container's process: sockets are procrt's
/// only if they are said to be (sd_listen_fds(3)).
fn activation() -> Result<Option<Activation>> {
    let for_us = variable("LISTEN_PID").is_some_and(|pid| pid == std::process::id().to_string());
    let sockets = match variable("LISTEN_FDS").filter(|_| for_us) {
        None => 0,
        Some(text) => text.parse().map_err(|_| Error::config(format!("LISTEN_FDS={text:?}: is no number")))?,
    };
    let notify_socket = manager()?.map(|_| container::NOTIFY_SOCKET.to_owned());
    let socket_names = variable("LISTEN_FDNAMES").filter(|_| sockets > 0);
    let activation = Activation { sockets, socket_names, notify_socket };
    Ok((activation != Activation::default()).then_some(activation))
}

/// The service manager that waits for word of readiness, if one does.
///
/// # Errors
/// If it names no socket.
pub fn manager() -> Result<Option<Manager>> {
    variable("NOTIFY_SOCKET").map(|address| Manager::at(&address)).transpose()
}

/// A variable of the environment that is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Run for Args {
    const NAME: &'static str = "create";
    const MAKES_PROCESSES: bool = true;

    fn run(self, global: &Global) -> Result<i32> {
        container::create(&global.store()?, &self.options.resolve(global)?)?;
        Ok(0)
    }
}
