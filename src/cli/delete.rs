//! `procrt delete`.

use super::Run;
use super::global::Global;
use crate::bundle::check_id;
use crate::container;
use crate::error::Result;

/// Remove a container that has ended, or any by force
///
/// Removes what is left of a container: its control group and its state. A container that runs is not removed, unless
/// by force: then its processes are killed first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt delete web
  procrt delete --force web                Whatever it does; no error if there is none
")]
pub struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,

    /// Kill the container's processes first; a container that is not there is no error
    #[arg(long, short)]
    force: bool,
}

impl Run for Args {
    const NAME: &'static str = "delete";

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        container::delete(&global.store()?, &self.id, self.force)?;
        Ok(0)
    }
}
