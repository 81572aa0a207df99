//! `procrt resume`.

use super::Run;
use super::global::Global;
use crate::bundle::check_id;
use crate::container;
use crate::error::Result;

/// Let a paused container go on
///
/// All its processes go on where `procrt pause` has stopped them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  procrt resume web
")]
pub struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Run for Args {
    const NAME: &'static str = "resume";

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        container::resume(&global.store()?, &self.id)?;
        Ok(0)
    }
}
