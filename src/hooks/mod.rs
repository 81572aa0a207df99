//! Hooks: programs of the bundle's that run at the turns of a container's life (config.md, "POSIX-platform Hooks").
//!
//! Both sides of clone3 run hooks, so they are a slice, and know nothing of either.

mod plan;
mod run;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use plan::plan;
pub use run::{run, state_json};

/// The kinds of hooks, by their names in config.json, in the order of their times.
pub const NAMES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The program, absolute.
    pub path: PathBuf,
    /// Its arguments, with the name that it is called by first; none: it is called by its path.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
    /// How many seconds it may take.
    pub timeout: Option<u32>,
}

/// All hooks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HooksPlan {
    /// On the host's side, before `create_runtime`.
    pub prestart: Vec<Hook>,
    /// On the host's side, when namespaces and mounts are there.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before the root becomes `/`.
    pub create_container: Vec<Hook>,
    /// In the container, before its program.
    pub start_container: Vec<Hook>,
    /// On the host's side, when the program runs.
    pub poststart: Vec<Hook>,
    /// On the host's side, when the container is gone.
    pub poststop: Vec<Hook>,
}

impl HooksPlan {
    /// Whether the container's side runs any.
    pub fn run_inside(&self) -> bool {
        !self.create_container.is_empty() || !self.start_container.is_empty()
    }

    /// Whether the host's side runs any while the container is created.
    pub fn run_on_host_at_create(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }

    /// What will be done, in words.
    pub fn describe(&self) -> Vec<String> {
        let lists = [
            &self.prestart,
            &self.create_runtime,
            &self.create_container,
            &self.start_container,
            &self.poststart,
            &self.poststop,
        ];
        let mut lines = Vec::new();
        for (name, list) in NAMES.iter().zip(lists) {
            for hook in list {
                let limit = hook.timeout.map(|seconds| format!(", at most {seconds} s")).unwrap_or_default();
                lines.push(format!("{name}: {} {:?}{limit}", hook.path.display(), hook.args));
            }
        }
        lines
    }
}
