//! The terminal of a container: the pty on its side, the socket that takes the pty's master end to whoever drives it, and
//! the foreground on the host's side, where procrt itself drives it.
//!
//! The two ends meet in this order: the container opens a [`pty::Pty`] in its own devpts instance, the master end is sent
//! away ([`console::send_master`], to the console socket or to procrt's own, which makes it fit our window with
//! [`relay::fit`]), the container takes the slave end as its
//! controlling terminal ([`pty::Pty::adopt`]), and [`foreground::supervise`] relays between the master and our own stdio.

pub mod console;
pub mod foreground;
pub mod pty;
mod raw;
pub mod relay;
pub mod signals;
pub mod stdio;

use nix::pty::Winsize;
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use crate::error::Faults;

/// What a container's terminal is to be: `process.terminal` and `process.consoleSize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalPlan {
    /// Its size when the container starts; the kernel's own, 0 by 0, if none is asked for.
    pub size: Option<Size>,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Its height.
    pub rows: u16,
    /// Its width.
    pub columns: u16,
}

impl From<Size> for Winsize {
    fn from(size: Size) -> Self {
        Self { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
    }
}

/// Decides on the terminal: none unless `process.terminal` is true, and then `consoleSize` is not looked at, as the
/// specification demands (config.md, Process).
pub fn plan(process: &Process, faults: &mut Faults) -> Option<TerminalPlan> {
    if process.terminal() != Some(true) {
        return None;
    }
    let size = process.console_size().map(|size| {
        let mut side = |name: &str, value: u64| {
            u16::try_from(value).unwrap_or_else(|_| {
                faults.add(
                    format!("process.consoleSize.{name}"),
                    format_args!("{value} is more than a terminal's {}", u16::MAX),
                );
                0
            })
        };
        Size { rows: side("height", size.height()), columns: side("width", size.width()) }
    });
    Some(TerminalPlan { size })
}

impl TerminalPlan {
    /// The plan in words.
    pub fn describe(&self) -> String {
        match self.size {
            Some(Size { rows, columns }) => format!("a terminal of {rows} rows and {columns} columns"),
            None => "a terminal".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(process: &str) -> (Option<TerminalPlan>, Faults) {
        let mut faults = Faults::default();
        let process = serde_json::from_str(process).unwrap();
        (plan(&process, &mut faults), faults)
    }

    #[test]
    fn a_terminal_is_planned_only_if_asked_for() {
        let rest = r#""user":{"uid":0,"gid":0},"cwd":"/","args":["a"]"#;
        let size = r#""consoleSize":{"height":24,"width":80}"#;
        assert_eq!(planned(&format!(r"{{{rest}}}")).0, None);
        assert_eq!(planned(&format!(r#"{{{rest},"terminal":false,{size}}}"#)).0, None);
        let (plan, faults) = planned(&format!(r#"{{{rest},"terminal":true,{size}}}"#));
        assert!(faults.is_empty());
        assert_eq!(plan.unwrap().describe(), "a terminal of 24 rows and 80 columns");
        assert_eq!(planned(&format!(r#"{{{rest},"terminal":true}}"#)).0.unwrap().describe(), "a terminal");
    }

    #[test]
    fn a_size_that_no_terminal_has_is_a_fault_by_its_path() {
        let rest = r#""user":{"uid":0,"gid":0},"cwd":"/","args":["a"]"#;
        let size = r#""terminal":true,"consoleSize":{"height":65536,"width":70000}"#;
        let error = planned(&format!(r"{{{rest},{size}}}")).1.into_result().unwrap_err();
        assert_eq!(
            error.to_string(),
            "process.consoleSize.height: 65536 is more than a terminal's 65535; \
             process.consoleSize.width: 70000 is more than a terminal's 65535"
        );
        let size = r#""terminal":false,"consoleSize":{"height":65536,"width":70000}"#;
        assert!(planned(&format!(r"{{{rest},{size}}}")).1.is_empty());
    }
}
