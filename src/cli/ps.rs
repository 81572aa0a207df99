//! `procrt ps`.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use clap::ValueEnum;

use super::global::Global;
use super::{Run, print, print_json};
use crate::bundle::check_id;
use crate::container;
use crate::error::{Context, Error, Result};

/// Show the processes of a container
///
/// The table is what ps(1) of the host prints, with the container's processes alone; options after ID are for ps, and are
/// -ef if there are none. They must leave the column PID in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt ps web
  procrt ps web -o pid,rss,args
  procrt ps --format json web              The pids, as the host has them
")]
pub struct Args {
    /// Write a table (the default) or json
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value = "table")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    format: Format,

    /// The container's id
    #[arg(value_name = "ID")]
    id: String,

    /// Options of ps(1)
    #[arg(value_name = "PS OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

impl Run for Args {
    const NAME: &'static str = "ps";
    const STOPS_AT_ARGUMENT: bool = true;

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        let pids = container::processes(&global.store()?, &self.id)?;
        if self.format == Format::Json {
            return print_json(&pids, false);
        }
        let mut ps = Command::new("ps");
        if self.options.is_empty() {
            ps.arg("-ef");
        }
        let output = ps.args(&self.options).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.context(|| "run ps")?;
        if !output.status.success() {
            return Err(Error::system(format!("ps has failed: {}", output.status)));
        }
        print(rows(&String::from_utf8_lossy(&output.stdout), &pids)?)
    }
}

/// The heading of what ps has printed, and the rows of `pids`.
fn rows(table: &str, pids: &[i32]) -> Result<String> {
    let heading = table.lines().next().unwrap_or_default();
    let column = heading.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Error::config("the output of ps has no column PID"))?;
    let mut chosen = format!("{heading}\n");
    // A thread's row has a dash there, and follows its process's.
    let mut follows = false;
    for row in table.lines().skip(1) {
        let cell = row.split_whitespace().nth(column).unwrap_or_default();
        follows = if cell == "-" { follows } else { cell.parse().is_ok_and(|pid| pids.contains(&pid)) };
        if follows {
            chosen.push_str(row);
            chosen.push('\n');
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_of_the_containers_processes_are_shown() {
        let table = "USER   PID CMD\nroot     1 init\nroot    12 sh\nroot     - -\nroot    13 1 12\nroot     - -\n";
        assert_eq!(rows(table, &[12, 99]).unwrap(), "USER   PID CMD\nroot    12 sh\nroot     - -\n");
        assert_eq!(rows(table, &[]).unwrap(), "USER   PID CMD\n");
        assert_eq!(rows("CMD\nsh\n", &[1]).unwrap_err().to_string(), "the output of ps has no column PID");
    }
}
