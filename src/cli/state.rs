//! `procrt state`.

use super::global::Global;
use super::{Run, print_json};
use crate::bundle::check_id;
use crate::container;
use crate::error::Result;

/// Print a container's state as JSON
///
/// The state is the runtime specification's, with the root file system, the time of creation and the owner added. Its
/// status is creating, created, running, paused or stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  procrt state web | jq -r .status
")]
pub struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Run for Args {
    const NAME: &'static str = "state";

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        print_json(&container::state(&global.store()?, &self.id)?, true)
    }
}
