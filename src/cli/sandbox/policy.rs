//! `procrt sandbox policy`.

use super::options::Options;
use crate::cli::global::Global;
use crate::cli::{Run, print_json};
use crate::error::Result;
use crate::sandbox::backend::choose;
use crate::sandbox::{Caller, Policy};

/// Print a policy, or the schema of policy files
///
/// The policy is that of the options, as run takes them, in the form of a policy file, and in force on this host: what is
/// left open has its value. A limit that is not there cannot be had and was not asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt sandbox policy --level default --memory 256M > policy.json
  procrt sandbox policy --policy policy.toml
  procrt sandbox policy --schema
")]
pub struct Args {
    /// Print the JSON Schema of policy files
    #[arg(long)]
    schema: bool,

    #[command(flatten)]
    options: Options,
}

impl Run for Args {
    const NAME: &'static str = "policy";

    fn run(self, _: &Global) -> Result<i32> {
        if self.schema {
            return print_json(&Policy::schema(), true);
        }
        let (policy, caller) = (self.options.policy()?, Caller::this_process()?);
        let choice = choose(&policy, &caller)?;
        print_json(&policy.effective(&caller, &choice)?, true)
    }
}
