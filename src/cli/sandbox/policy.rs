//! `procrt sandbox policy`.

use super::options::Options;
use crate::cli::global::Global;
use crate::cli::{Run, print_json};
use crate::error::Result;
use crate::sandbox::Policy;

/// Print a policy, or the schema of policy files
///
/// The policy is that of the options, as run takes them, in the form of a policy file.
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
        print_json(&self.options.policy()?, true)
    }
}
