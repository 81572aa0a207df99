//! `procrt explain`: what would be done with a bundle, step by step, without doing any of it.

use std::path::PathBuf;

use serde::Serialize;

use super::Run;
use super::global::Global;
use crate::container;
use crate::error::Result;

/// Print what a bundle's container would be, step by step
///
/// Reads config.json and plans as create does, then prints the plan in the order in which it would be carried out.
/// Nothing is made.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt explain                           The bundle in this directory
  procrt explain --bundle /b --json | jq .mounts
")]
pub struct Args {
    /// The bundle: the directory of config.json [default: this directory]
    #[arg(long, short, value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub bundle: PathBuf,

    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
}

impl Run for Args {
    const NAME: &'static str = "explain";

    fn run(self, global: &Global) -> Result<i32> {
        let plan = container::plan::explain(&self.bundle, global.cgroup_manager(), global.missing_lsm.into())?;
        let steps: Vec<Step> =
            plan.steps().into_iter().map(|(title, lines)| Step { title: title.to_owned(), lines }).collect();
        print(&self, &plan, &steps)?;
        Ok(0)
    }
}

/// One step of a plan, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What is done.
    pub title: String,
    /// To what and with which values, a line each.
    pub lines: Vec<String>,
}

/// Prints `plan` as `args` ask: itself as JSON, or `steps`, which say the same in words.
///
/// # Errors
/// `Kind::System` if standard output cannot be written.
pub fn print(args: &Args, plan: &impl Serialize, steps: &[Step]) -> Result<()> {
    if args.json {
        super::print_json(plan, true)?
    } else {
        super::print(render(steps))?
    };
    Ok(())
}

/// The steps as numbered paragraphs, their lines below them, under the titles.
pub fn render(steps: &[Step]) -> String {
    let digits = steps.len().to_string().len();
    let mut text = String::new();
    for (number, step) in steps.iter().enumerate() {
        let number = format!("{:>digits$}. ", number + 1);
        text.extend([number.as_str(), &step.title, "\n"]);
        for line in &step.lines {
            text.extend(std::iter::repeat_n(' ', number.len() + 2));
            text.extend([line.as_str(), "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_and_their_lines_stand_below_their_titles() {
        let mut steps = vec![Step { title: "Take the id".to_owned(), lines: vec![] }; 9];
        steps.push(Step {
            title: "Mount".to_owned(),
            lines: vec!["proc on /proc".to_owned(), "tmpfs on /dev".to_owned()],
        });
        let text = render(&steps);
        assert!(text.starts_with(" 1. Take the id\n 2. Take"), "{text}");
        assert!(text.ends_with(" 9. Take the id\n10. Mount\n      proc on /proc\n      tmpfs on /dev\n"), "{text}");
        assert_eq!(render(&[]), "");
    }
}
