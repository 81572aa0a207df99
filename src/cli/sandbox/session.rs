//! `procrt sandbox start`, `exec`, `swap`, `stop` and `list`: sandboxes that stay between commands.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::options::{Options, variable};
use super::run::Sink;
use crate::cli::global::Global;
use crate::cli::{Run, print, print_json};
use crate::error::Result;
use crate::sandbox::session::{self, ExecPolicy, State};
use crate::sandbox::{Caller, Size, Time};

/// Start a sandbox that stays, for commands to be run in it
///
/// Limits hold over all its commands together; --timeout and --output-limit are for each command. A workspace is copied
/// now, is at /workspace for all commands, and is thrown away when the sandbox is stopped. The sandbox is an enhanced or a container one, and a
/// process of procrt's keeps it: if that is killed, so is all that runs in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt sandbox start agent --workspace . --memory 2G
  procrt sandbox exec agent --timeout 30s -- make test
  procrt sandbox stop agent
")]
pub struct Start {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    options: Options,
}

impl Run for Start {
    const NAME: &'static str = "start";
    const MAKES_PROCESSES: bool = true;

    fn run(self, _: &Global) -> Result<i32> {
        session::start(&self.name, &self.options.policy()?, &Caller::this_process()?)?;
        Ok(0)
    }
}

/// Run a command in a sandbox that was started
///
/// When the command's time is over, all that it has started ends. What it leaves running when it ends by itself goes on,
/// until the sandbox is stopped. The exit status is as that of run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt sandbox exec agent -- sh -c 'make && ./program'
  procrt sandbox exec agent --timeout 5s --result result.json -- python3 answer.py
")]
pub struct Exec {
    /// The sandbox's name
    #[arg(value_name = "NAME")]
    name: String,

    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    command: Vec<OsString>,

    /// Its time; when it is over, all that it has started gets TERM, and after the sandbox's --grace KILL [default: the
    /// sandbox's]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Time>,

    /// Bytes of standard output and error together; what is more is thrown away, and nothing is left running [default:
    /// the sandbox's]
    #[arg(long, value_name = "SIZE")]
    output_limit: Option<Size>,

    /// Begin in the directory DIR, as the sandbox sees it [default: the sandbox's]
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// Set a variable (may be repeated)
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,

    /// Let a variable in whose name looks like a secret's (may be repeated)
    #[arg(long, value_name = "NAME")]
    allow_secret_env: Vec<String>,

    /// Write how it ended and what it used, as JSON, to FILE or to the open descriptor N
    #[arg(long, value_name = "FILE|fd:N")]
    result: Option<OsString>,
}

impl Run for Exec {
    const NAME: &'static str = "exec";
    const MAKES_PROCESSES: bool = true;

    fn run(self, _: &Global) -> Result<i32> {
        let own = ExecPolicy {
            timeout: self.timeout,
            output: self.output_limit,
            cwd: self.cwd,
            env: self.env,
            allow_secret: self.allow_secret_env,
        };
        let result = self.result.map(Sink::open).transpose()?;
        let outcome = session::exec(&self.name, self.command, &own)?;
        Sink::write_outcome(result, &outcome)?;
        Ok(outcome.exit_status())
    }
}

/// Give a sandbox that was started another root file system
///
/// All that runs in it ends; /tmp is empty again, and what was written to overlays is thrown away. Its workspace, and what
/// it was given of the host's, stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt sandbox swap agent --rootfs images/python
")]
pub struct Swap {
    /// The sandbox's name
    #[arg(value_name = "NAME")]
    name: String,

    /// The root file system
    #[arg(long, value_name = "DIR")]
    rootfs: PathBuf,
}

impl Run for Swap {
    const NAME: &'static str = "swap";
    const MAKES_PROCESSES: bool = true;

    fn run(self, _: &Global) -> Result<i32> {
        session::swap(&self.name, &self.rootfs, &Caller::this_process()?)?;
        Ok(0)
    }
}

/// Stop a sandbox that was started, and remove all of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt sandbox stop agent
")]
pub struct Stop {
    /// The sandbox's name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Run for Stop {
    const NAME: &'static str = "stop";

    fn run(self, _: &Global) -> Result<i32> {
        session::stop(&self.name)?;
        Ok(0)
    }
}

/// List the sandboxes that were started
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt sandbox list
  procrt sandbox list --json
")]
pub struct List {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

impl Run for List {
    const NAME: &'static str = "list";

    fn run(self, _: &Global) -> Result<i32> {
        let sessions = session::list()?;
        if self.json {
            return print_json(&sessions, true);
        }
        let mut text = format!("{:<20} {:<8} {:>9}  {:<20} ROOT\n", "NAME", "STATE", "PROCESSES", "STARTED");
        for session in sessions {
            let state = match session.state {
                State::Running => "running",
                State::Ended => "ended",
                State::Stale => "stale",
            };
            let started = session.started.get(..19).unwrap_or(&session.started);
            let root = session.rootfs.map_or_else(|| "the host's".to_owned(), |root| root.display().to_string());
            let reason = session.reason.map(|why| format!(" ({why})")).unwrap_or_default();
            let name = session.name;
            let _ = writeln!(text, "{name:<20} {state:<8} {:>9}  {started:<20} {root}{reason}", session.processes);
        }
        print(text)
    }
}
