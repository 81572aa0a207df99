//! What a process that joins a container is to be: the container's, a file's, and the command line's say.

use std::path::PathBuf;

use crate::bundle;
use crate::error::{Error, Faults, Result};
use crate::host::lsm::{self, Label, Missing};
use crate::init::{Container, JoinPlan};
use crate::namespaces::Namespace;
use crate::process::{self, ProcessPlan};
use crate::terminal::{self, TerminalPlan};

/// What `exec` takes beside the container.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// The container's id.
    pub id: String,
    /// The command line; empty with `process`.
    pub args: Vec<String>,
    /// A file with a process as config.json has it.
    pub process: Option<PathBuf>,
    /// Have a terminal.
    pub tty: bool,
    /// Return as soon as the process runs.
    pub detach: bool,
    /// A file that the process's pid is written to.
    pub pid_file: Option<PathBuf>,
    /// An AF_UNIX socket that is sent the terminal's master end.
    pub console_socket: Option<PathBuf>,
    /// An AF_UNIX socket that is sent a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// Another working directory.
    pub cwd: Option<PathBuf>,
    /// More of the environment, `NAME=VALUE` each; a name's last value counts.
    pub env: Vec<String>,
    /// Another user, and another group.
    pub user: Option<(u32, Option<u32>)>,
    /// More supplementary groups.
    pub additional_gids: Vec<u32>,
    /// More capabilities, by name.
    pub capabilities: Vec<String>,
    /// `no_new_privs`, if the container does not have it anyway.
    pub no_new_privileges: bool,
    /// Another AppArmor profile.
    pub apparmor: Option<String>,
    /// Another SELinux label.
    pub process_label: Option<String>,
    /// How many descriptors from 3 on the process gets.
    pub preserve_fds: u32,
    /// Cgroups inside the container's, `[CONTROLLER:]PATH` each.
    pub cgroups: Vec<String>,
    /// A cgroup inside the container's that is made for the process, instead of `cgroups`: a name. The process is killed when its
    /// maker ends, and whoever wants to end what it has started does so by the cgroup.
    pub new_cgroup: Option<String>,
    /// Join even if the container is paused; the process then waits until it is resumed.
    pub ignore_paused: bool,
    /// What becomes of labels for security modules that are not at work.
    pub missing_lsm: Missing,
}

/// Decides what joins `container`.
///
/// # Errors
/// Everything that is wrong, together.
pub(super) fn plan(options: &ExecOptions, mut container: Container, faults: &mut Faults) -> Result<JoinPlan> {
    if container.process.is_missing() {
        container.process = ProcessPlan { cwd: "/".into(), umask: 0o022, ..container.process };
    }
    let (mut process, mut terminal) = match &options.process {
        Some(path) => {
            if !options.args.is_empty() {
                faults.add("--process", "there is a command too: it would not be run");
            }
            let process = bundle::read_process(path)?;
            let plan = process::plan_joining(&process, &container.process, options.missing_lsm, faults);
            (plan, terminal::plan(&process, faults))
        }
        None => {
            if options.args.first().is_none_or(String::is_empty) {
                faults.add("process.args", "is empty");
            }
            (ProcessPlan { args: options.args.clone(), ..container.process.clone() }, None)
        }
    };
    if options.tty {
        terminal = terminal.or(Some(TerminalPlan { size: None }));
    }
    change(&mut process, options, faults);
    let plan = JoinPlan {
        id: options.id.clone(),
        container: Container { process, ..container },
        terminal,
        preserve_fds: options.preserve_fds,
        waits: false,
        attended: options.new_cgroup.is_some(),
    };
    check_console(&plan, options, faults);
    let user_namespace = plan.container.namespaces.contains(&Namespace::User);
    super::plan::warn_of_missing_capabilities(&plan.container.process, user_namespace);
    Ok(plan)
}

/// Changes what the options say.
fn change(process: &mut ProcessPlan, options: &ExecOptions, faults: &mut Faults) {
    if let Some(cwd) = &options.cwd {
        if !cwd.is_absolute() {
            faults.add("--cwd", format_args!("{:?} is not an absolute path", cwd.display().to_string()));
        }
        process.cwd.clone_from(cwd);
    }
    for variable in &options.env {
        if variable.find('=').is_none_or(|at| at == 0) {
            faults.add("--env", format_args!("{variable:?} is not of the form NAME=VALUE"));
        }
        process::set_variable(&mut process.env, variable);
    }
    if let Some((uid, gid)) = options.user {
        process.uid = uid;
        process.gid = gid.unwrap_or(process.gid);
    }
    process.groups.extend(&options.additional_gids);
    for name in &options.capabilities {
        let Some(bit) = process::capability_bit(name) else {
            faults.add("--cap", format_args!("{name:?} is not a known capability"));
            continue;
        };
        let sets = &mut process.capabilities;
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            *set |= bit;
        }
        // The kernel makes ambient only what is inheritable.
        sets.ambient |= bit & sets.inheritable;
    }
    process.no_new_privileges |= options.no_new_privileges;
    let mut label =
        |option, value: &Option<String>, kind| lsm::plan(option, value.as_deref(), kind, options.missing_lsm, faults);
    let profile = label("--apparmor", &options.apparmor, Label::AppArmorProfile);
    process.apparmor_profile = profile.or(process.apparmor_profile.take());
    let label = label("--process-label", &options.process_label, Label::SelinuxProcess);
    process.selinux_label = label.or(process.selinux_label.take());
}

/// A terminal needs somebody at its other end: whoever listens on the socket, or this process in the foreground.
fn check_console(plan: &JoinPlan, options: &ExecOptions, faults: &mut Faults) {
    match (&options.console_socket, plan.terminal.is_some()) {
        (None, true) if options.detach => {
            faults.add("--console-socket", "is needed for the terminal of a process that is not in the foreground");
        }
        (Some(_), false) => faults.add("--console-socket", "there is no terminal to send (--tty)"),
        (Some(_), true) if !options.detach => {
            faults.add("--console-socket", "a process in the foreground has procrt's own terminal (--detach)");
        }
        _ => {}
    }
}

/// `UID[:GID]`.
///
/// # Errors
/// If it is not that.
pub fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    let gid = gid.map(number);
    match (number(uid), gid) {
        (Some(uid), None) => Ok((uid, None)),
        (Some(uid), Some(Some(gid))) => Ok((uid, Some(gid))),
        _ => Err(Error::config(format!("--user: {text:?} is not of the form UID[:GID], in numbers"))),
    }
}
