//! `procrt run`.

use super::global::Global;
use super::{Run, create};
use crate::container::{self, RunOptions};
use crate::error::Result;

/// Create a container and run it
///
/// Makes a container from a bundle and starts it at once. In the foreground, the container has this terminal, gets the
/// signals that procrt gets, and is removed when its process ends; the exit status is the process's, or 128 and the
/// signal's number if a signal ended it.
///
/// Under a service manager: the sockets of LISTEN_FDS (sd_listen_fds(3)) are passed to the process, before those of
/// --preserve-fds; with NOTIFY_SOCKET (sd_notify(3)) the manager is told when the process has said READY=1, which --detach
/// waits for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt run shell                         From the bundle in this directory
  procrt run --detach --bundle /b --console-socket /tmp/console.sock web
")]
pub struct Args {
    #[command(flatten)]
    options: create::Options,

    /// Return as soon as the container runs
    #[arg(long, short)]
    detach: bool,

    /// Do not remove the container when it has ended
    #[arg(long)]
    keep: bool,

    /// Do not become the parent of processes that the container leaves behind
    #[arg(long)]
    no_subreaper: bool,
}

impl Run for Args {
    const NAME: &'static str = "run";
    const MAKES_PROCESSES: bool = true;

    fn run(self, global: &Global) -> Result<i32> {
        let manager = create::manager()?;
        let run = RunOptions { detach: self.detach, keep: self.keep, subreaper: !self.no_subreaper, manager };
        container::run(&global.store()?, &self.options.resolve(global)?, run)
    }
}
