//! `procrt pause`.

use super::Run;
use super::global::Global;
use crate::bundle::check_id;
use crate::container;
use crate::error::Result;

/// Stop all processes of a container where they are
///
/// Only a running container can be paused. It stays so until `procrt resume`; killing it wakes it up to die.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  procrt pause web
")]
pub struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Run for Args {
    const NAME: &'static str = "pause";

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        container::pause(&global.store()?, &self.id)?;
        Ok(0)
    }
}
