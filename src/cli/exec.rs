//! `procrt exec`.

use std::path::PathBuf;

use super::Run;
use super::global::Global;
use crate::bundle::check_id;
use crate::container::{self, ExecOptions};
use crate::error::{Error, Result};

/// Run a process in a container
///
/// The process has the container's namespaces, control groups, environment, user, capabilities, limits and filter, but
/// for what FILE or the options say. In the foreground, it has this terminal and gets the signals that procrt gets; the
/// exit status is its own, or 128 and the signal's number if a signal ended it, or 255 if it could not be run. Options end
/// at ID: what follows is the process's command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt exec web ls -l /
  procrt exec --tty web sh
  procrt exec --user 1000:1000 --env LANG=C --cwd /tmp web id
  procrt exec --process process.json --detach --pid-file job.pid web
")]
pub struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,

    /// The program and its arguments; not with --process
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,

    /// Run the process of FILE: a JSON object such as "process" in config.json
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,

    /// Give the process a terminal
    #[arg(long, short)]
    tty: bool,

    /// Return as soon as the process runs
    #[arg(long, short)]
    detach: bool,

    /// Write the process's pid to FILE
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// Send the terminal's master end to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,

    /// Send a pidfd of the process to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,

    /// Run it in the directory DIR of the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// Set a variable of the environment (may be given more than once)
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Run it as user UID, of group GID
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,

    /// Add a supplementary group (may be given more than once)
    #[arg(long, short = 'g', value_name = "GID", value_delimiter = ',')]
    additional_gids: Vec<u32>,

    /// Add a capability (may be given more than once)
    #[arg(long, short, value_name = "NAME")]
    cap: Vec<String>,

    /// Let it gain no privileges by execve(2)
    #[arg(long)]
    no_new_privs: bool,

    /// Confine it by this AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,

    /// Give it this SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,

    /// Pass N more descriptors to it, those from 3 on
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,

    /// Run it in a control group inside the container's, which must be there; with controllers, in their version 1
    /// hierarchies alone (may be given more than once)
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,

    /// Do it in a paused container too: the process waits until it is resumed
    #[arg(long)]
    ignore_paused: bool,

    /// Accepted for runc's callers: exec adopts no processes.
    #[arg(long, hide = true)]
    no_subreaper: bool,
}

impl Run for Args {
    const NAME: &'static str = "exec";
    const MAKES_PROCESSES: bool = true;
    const STOPS_AT_ARGUMENT: bool = true;
    const FAILURE: i32 = 255;

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        // `exec ID -- COMMAND` is another habit.
        let mut args = self.command;
        if args.len() > 1 && args[0] == "--" {
            args.remove(0);
        }
        if args.is_empty() && self.process.is_none() {
            return Err(Error::config("exec: there is no command, and no --process"));
        }
        let user = self.user.filter(|user| !user.is_empty());
        let options = ExecOptions {
            id: self.id,
            args,
            process: self.process,
            tty: self.tty,
            detach: self.detach,
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            cwd: self.cwd.filter(|cwd| !cwd.as_os_str().is_empty()),
            env: self.env,
            user: user.as_deref().map(container::parse_user).transpose()?,
            additional_gids: self.additional_gids,
            capabilities: self.cap,
            no_new_privileges: self.no_new_privs,
            apparmor: self.apparmor,
            process_label: self.process_label,
            preserve_fds: self.preserve_fds,
            cgroups: self.cgroup,
            new_cgroup: None,
            ignore_paused: self.ignore_paused,
            missing_lsm: global.missing_lsm.into(),
        };
        container::exec(&global.store()?, &options)
    }
}
