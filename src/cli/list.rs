//! `procrt list`.

use clap::ValueEnum;

use super::global::Global;
use super::{Run, print, print_json};
use crate::container::{self, Report};
use crate::error::{Error, Result};

/// List the containers under --root
///
/// One container a line, or all of them as a JSON array of what `procrt state` prints.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt list
  procrt list --format json | jq -r '.[] | select(.status == \"stopped\") | .id'
  procrt list -q | xargs -n1 procrt delete --force
")]
pub struct Args {
    /// Write the list as a table (the default) or json
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value = "table")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    format: Format,

    /// Print the ids alone
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

impl Run for Args {
    const NAME: &'static str = "list";
    const ALIAS: Option<&'static str> = Some("ls");

    fn run(self, global: &Global) -> Result<i32> {
        let containers = container::list(&global.store()?)?;
        if self.quiet {
            return print(containers.iter().flat_map(|report| [report.id.as_str(), "\n"]).collect::<String>());
        }
        match self.format {
            Format::Table => print(table(&containers)?),
            Format::Json => print_json(&containers, false),
        }
    }
}

/// The containers as a table; columns are as wide as their widest cell, at least 12, with 3 spaces between.
fn table(containers: &[Report]) -> Result<String> {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for report in containers {
        rows.push([
            report.id.clone(),
            report.pid.to_string(),
            status(report)?,
            // A line is a container, whatever the path has in it.
            report.bundle.display().to_string().replace(char::is_control, "?"),
            report.created.clone(),
            report.owner.clone(),
        ]);
    }
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or_default();
        widest.max(12)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
        text.extend([row[5].as_str(), "\n"]);
    }
    Ok(text)
}

/// A status as the state spells it.
fn status(report: &Report) -> Result<String> {
    match serde_json::to_value(report.status) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        _ => Err(Error::system(format!("the status {:?} has no name", report.status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Status;

    #[test]
    fn a_path_breaks_no_line_and_is_obeyed_by_no_terminal() {
        let report = Report {
            oci_version: "1.3.0".to_owned(),
            id: "x".to_owned(),
            pid: 0,
            status: Status::Stopped,
            bundle: "/a\nb\u{1b}[2J".into(),
            rootfs: "/r".into(),
            created: "now".to_owned(),
            annotations: std::collections::BTreeMap::default(),
            owner: "root".to_owned(),
        };
        let text = table(&[report]).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains(" /a?b?[2J "), "{text:?}");
    }

    #[test]
    fn the_table_has_runcs_columns() {
        assert_eq!(table(&[]).unwrap(), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
        let report = Report {
            oci_version: "1.3.0".to_owned(),
            id: "a-longer-id".to_owned(),
            pid: 42,
            status: Status::Running,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-02T03:04:05.6Z".to_owned(),
            annotations: std::collections::BTreeMap::default(),
            owner: "root".to_owned(),
        };
        assert_eq!(
            table(&[report]).unwrap(),
            "ID            PID         STATUS      BUNDLE      CREATED                  OWNER\n\
             a-longer-id   42          running     /b          2026-01-02T03:04:05.6Z   root\n"
        );
    }
}
