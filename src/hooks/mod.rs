//! The six kinds of hooks: which programs a configuration wants run at which moments, and running them.
//!
//! When and where a kind runs is the lifecycle's to know: `prestart`, `createRuntime`, `poststart` and `poststop` run on the
//! host's side, `createContainer` and `startContainer` on the container's (runtime-spec, config.md, POSIX-platform Hooks).

mod plan;
mod run;
mod state;

use std::path::PathBuf;

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Faults, Result};

pub use plan::plan;
pub use run::{run, run_each};
pub use state::state_json;

/// The kinds that run while the container is created, with programs of the host's.
const AT_CREATE: [&str; 3] = ["prestart", "createRuntime", "createContainer"];

/// Every hook, by kind, each kind in the order it is run in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HooksPlan {
    /// On the host's side, when the namespaces are there; deprecated in favour of the next three.
    pub prestart: Vec<Hook>,
    /// On the host's side, after `prestart` and before the root is pivoted to.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, after `createRuntime` and before the root is pivoted to.
    pub create_container: Vec<Hook>,
    /// In the container, at `start`, before its program.
    pub start_container: Vec<Hook>,
    /// On the host's side, after the container's program was started.
    pub poststart: Vec<Hook>,
    /// On the host's side, after the container was deleted.
    pub poststop: Vec<Hook>,
}

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The program's absolute path.
    pub path: PathBuf,
    /// Its arguments, the first being its name; none means that its path is its name.
    pub args: Vec<String>,
    /// Its whole environment, `NAME=value` each.
    pub env: Vec<String>,
    /// After how many seconds it is killed, if ever.
    pub timeout: Option<u64>,
}

impl HooksPlan {
    /// Every kind by its name in config.json, in the order of the lifecycle.
    pub fn kinds(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }

    /// Sees to it that the programs which run while the container is created are there, before anything of it is. Those
    /// that run later may come later, and those that run inside may come with its mounts.
    ///
    /// # Errors
    /// All that are not there, by their places in config.json.
    pub fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        for (kind, hooks) in self.kinds().into_iter().filter(|(kind, _)| AT_CREATE.contains(kind)) {
            for (index, hook) in hooks.iter().enumerate() {
                if let Err(errno) = access(&hook.path, AccessFlags::X_OK) {
                    let error = Error::from(errno).context(format!("{:?}", hook.path.to_string_lossy()));
                    faults.add(format!("hooks.{kind}[{index}].path"), error);
                }
            }
        }
        faults.into_result()
    }

    /// Whether the container's side runs any.
    pub fn run_inside(&self) -> bool {
        !self.create_container.is_empty() || !self.start_container.is_empty()
    }

    /// Whether the host's side runs any while the container is created.
    pub fn run_on_host_at_create(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }

    /// The plan in words, a line a hook.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, hooks) in self.kinds() {
            for hook in hooks {
                let arguments = hook.args.get(1..).filter(|arguments| !arguments.is_empty());
                let arguments = arguments.map(|arguments| format!(" with the arguments {arguments:?}"));
                let timeout = hook.timeout.map(|seconds| format!(", killed after {seconds} s"));
                let (arguments, timeout) = (arguments.unwrap_or_default(), timeout.unwrap_or_default());
                lines.push(format!("{kind} hook {}{arguments}{timeout}", hook.path.display()));
            }
        }
        lines
    }
}
