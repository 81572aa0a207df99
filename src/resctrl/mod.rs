//! Shares of caches and of memory bandwidth: the group of the resctrl file system that a container's processes are in
//! (config-linux.md, "IntelRdt"; Documentation/filesystems/resctrl.rst).
//!
//! A class of service is a directory there, with the shares in `schemata` and its threads in `tasks`; a monitoring group is
//! one below its `mon_groups`. A process enters as it enters version 1 control groups: it writes `0` to each `tasks`.

mod apply;
mod plan;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use apply::{Former, Resctrl};
pub use plan::{limits, plan};

/// What becomes of a container's shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResctrlPlan {
    /// The name of the class of service; none for the one that everything is in that is in no other.
    pub class: Option<String>,
    /// The class is the container's own: it is made, and is removed with the container.
    pub own: bool,
    /// Lines of `schemata` that are written to a class that is made, and that another one must have.
    pub limits: Vec<String>,
    /// Lines of `schemata` that are written after those in any case.
    pub schemata: Vec<String>,
    /// The name of the monitoring group that is made for the container.
    pub monitoring: Option<String>,
}

impl ResctrlPlan {
    /// What will be done, in words.
    pub fn describe(&self) -> Vec<String> {
        let class = match &self.class {
            None => "join the default class of service".to_owned(),
            Some(class) if self.own => format!("make the class of service {class:?}, and join it"),
            Some(class) if self.limits.is_empty() && self.schemata.is_empty() => {
                format!("join the class of service {class:?}, which must be there")
            }
            Some(class) => format!("join the class of service {class:?}, made if it is not there"),
        };
        let mut lines = vec![class];
        lines.extend(self.limits.iter().chain(&self.schemata).map(|line| format!("with {line:?} in schemata")));
        lines.extend(self.monitoring.iter().map(|name| format!("make the monitoring group {name:?}, and join it")));
        lines
    }
}

/// The groups of a container that is there, or that is being made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// The directories whose `tasks` its processes are in, in the order in which they have to enter them.
    pub joined: Vec<PathBuf>,
    /// The directories that are removed with it, in the order in which they were made.
    pub removed: Vec<PathBuf>,
}
