//! `procrt start`.

use super::Run;
use super::global::Global;
use crate::bundle::check_id;
use crate::container;
use crate::error::Result;

/// Let a created container's process run
///
/// The process that `procrt create` left waiting becomes the program of process.args.
/// Under a service manager (NOTIFY_SOCKET, at create too), returns when the process has said READY=1 or has ended.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Run for Args {
    const NAME: &'static str = "start";

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        container::start(&global.store()?, &self.id, super::create::manager()?)?;
        Ok(0)
    }
}
