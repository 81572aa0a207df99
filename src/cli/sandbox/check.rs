//! `procrt sandbox check`.

use std::fmt::Write as _;

use crate::cli::global::Global;
use crate::cli::{Run, print, print_json};
use crate::error::Result;
use crate::sandbox::backend::Backend;
use crate::sandbox::{Caller, Capabilities, LevelHere};

/// Show what a sandbox can enforce here, for whoever asks
///
/// Each thing is tried: processes in new namespaces, a landlock domain, a filter, control groups with each limit, which are
/// removed again; other runtimes and engines are asked for their version. Nothing is left.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt sandbox check
  procrt sandbox check --json | jq .levels.enhanced
")]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Run for Args {
    const NAME: &'static str = "check";

    fn run(self, _: &Global) -> Result<i32> {
        let found = Capabilities::probe(&Caller::this_process()?)?;
        if self.json {
            return print_json(&found, true);
        }
        print(text(&found))
    }
}

fn text(found: &Capabilities) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: &str| {
        let _ = writeln!(text, "{what:<22}{value}");
    };
    let reason = |name: &str| found.reasons.get(name).map_or_else(String::new, |why| format!(": {why}"));
    for (what, name, can) in [
        ("limits memory", "can_limit_memory", found.can_limit_memory),
        ("limits processors", "can_limit_cpu", found.can_limit_cpu),
        ("limits disks", "can_limit_io", found.can_limit_io),
        ("limits processes", "can_limit_pids", found.can_limit_pids),
        ("limits the network", "can_limit_network", found.can_limit_network),
        ("isolates files", "can_isolate_fs", found.can_isolate_fs),
        ("isolates processes", "can_isolate_pid", found.can_isolate_pid),
    ] {
        line(what, &format!("{}{}", if can { "yes" } else { "no" }, reason(name)));
    }
    let landlock = match found.landlock_abi {
        0 => format!("no{}", reason("landlock_abi")),
        abi => format!("version {abi} of its interface"),
    };
    line("landlock", &landlock);
    let filters = match found.seccomp_actions.as_slice() {
        [] => format!("no{}", reason("seccomp_actions")),
        actions => actions.join(", "),
    };
    line("seccomp", &filters);
    let controllers = match found.cgroup.controllers.as_slice() {
        [] => "none for this user".to_owned(),
        names => names.join(", "),
    };
    line("control groups", &format!("version {}: {controllers}", found.cgroup.version));
    for (name, program) in &found.programs {
        let value = match program {
            None => "not found".to_owned(),
            Some(program) => {
                let answer = program.answer.as_deref().unwrap_or("does not answer");
                format!("{} ({answer})", program.path.display())
            }
        };
        line(name, &value);
    }
    for name in ["off", "default", "enhanced", "container", "maximum"] {
        let value = match found.levels.get(name) {
            Some(LevelHere::Can(choice)) => {
                let by = match &choice.backend {
                    Backend::Process => "the process itself".to_owned(),
                    Backend::Engine => "a container of procrt's".to_owned(),
                    Backend::Runtime { path } => format!("a container of {}", path.display()),
                };
                format!("{by}: {}", choice.reason)
            }
            Some(LevelHere::Cannot { error }) => format!("no: {error}"),
            None => continue,
        };
        line(&format!("level {name}"), &value);
    }
    text
}
