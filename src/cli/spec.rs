//! `procrt spec`.

use std::path::PathBuf;

use super::Run;
use super::global::Global;
use crate::bundle::write_default;
use crate::error::Result;

/// Write a config.json to begin with
///
/// The configuration runs sh in a terminal, on the root file system in the directory rootfs beside it, which is
/// read-only. An existing config.json is not overwritten.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  mkdir -p bundle/rootfs
  docker export $(docker create busybox) | tar -C bundle/rootfs -x
  procrt spec --bundle bundle
  procrt run --bundle bundle shell
")]
pub struct Args {
    /// The directory to write to [default: this directory]
    #[arg(long, short, value_name = "DIR", default_value = ".", hide_default_value = true)]
    bundle: PathBuf,

    /// Write a configuration for a user namespace in which you are root
    #[arg(long)]
    rootless: bool,
}

impl Run for Args {
    const NAME: &'static str = "spec";

    fn run(self, _: &Global) -> Result<i32> {
        let ids = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        write_default(&self.bundle, self.rootless.then_some(ids))?;
        Ok(0)
    }
}
