//! Control groups: what a container may use, and the handle by which all its processes are known.
//!
//! A container gets one cgroup in every hierarchy of the machine: one on a unified host, ten or so on a hybrid one.
//! [`plan()`] decides which and what is written where; [`Cgroup`] carries it out, and finds it again later by the
//! [`ContainerCgroups`](crate::host::cgroups::ContainerCgroups) that the state keeps.
//!
//! How a process gets in matters for speed. Version 2 takes it at birth (`clone3` with `CLONE_INTO_CGROUP` and
//! [`Cgroup::birth_fd`]). Version 1 takes it through [`Entrance`]: the process itself writes `0` to each `tasks`, which
//! the kernel does at once, while a pid written to `cgroup.procs` by another waits for an RCU grace period, some ten
//! milliseconds on a machine at rest. A cgroup namespace shows the cgroup that its first process was in when
//! it was made: it has to be unshared after the entrance, not with `clone3`.

// Errors show a path in quotes and with its control characters escaped.
#![allow(clippy::unnecessary_debug_formatting)]

mod control;
mod cpu;
mod device_program;
mod devices;
mod group;
mod io;
mod oom;
mod plan;
mod resources;
mod stats;
mod sub;
pub mod systemd;
mod tree;
mod update;
mod usage;
mod v1;
mod v2;

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod plan_tests;

use std::borrow::Cow;

use serde::Serialize;

pub use devices::{Access, DeviceKind, DevicePolicy, DeviceRule};
pub use group::{Cgroup, Entrance};
pub use oom::OomWatch;
pub use plan::{names_none, needs_own_paths, plan, plan_none, plan_scope};
pub use stats::Stats;
pub use sub::{inside, make_inside, prune_inside};
pub use update::{Undo, UpdatePlan, plan_update};
pub use usage::Usage;

use crate::host::cgroups::{ContainerCgroup, ContainerCgroups};
use crate::sys::bpf::Instruction;

/// Everything that is to be made and written for one container.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CgroupPlan {
    /// One a hierarchy, version 2 (if there is one) first.
    pub groups: Vec<GroupPlan>,
    /// What the container may do with devices: in one of the groups, this is writes or a program.
    pub devices: DevicePolicy,
    /// systemd makes the version 2 group, as this unit's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<systemd::ScopePlan>,
}

/// One hierarchy's part of a [`CgroupPlan`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupPlan {
    /// The hierarchy, and the cgroup in it.
    pub cgroup: ContainerCgroup,
    /// Version 2: the controllers that every ancestor has to hand down, for the writes to find their files.
    pub controllers: Vec<String>,
    /// What is written, in order.
    pub writes: Vec<FileWrite>,
    /// A limit that must not be below what is in use already (`checkBeforeUpdate`).
    pub usage_check: Option<UsageCheck>,
    /// Version 2: the device policy as a program.
    pub device_program: Option<Vec<Instruction>>,
    /// Version 2: the uid, on the host, that the group is given to, so that the container can make groups inside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
}

/// One value for one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileWrite {
    /// The file's name in the cgroup's directory.
    pub file: Cow<'static, str>,
    /// What is written to it.
    pub value: String,
    /// The value is what holds anyway on a kernel that lacks the file: then it is not missed.
    pub missing_ok: bool,
    /// Another file that does the same, and its value, for a kernel that lacks the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<(&'static str, String)>,
    /// What it is of, below `linux.resources`, if that is a field of the configuration.
    #[serde(skip)]
    pub field: Option<Cow<'static, str>>,
}

/// A memory limit and the file that says how much is in use; both are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageCheck {
    /// The file with the usage.
    pub file: &'static str,
    /// The limit to be set.
    pub limit: u64,
}

impl GroupPlan {
    /// Nothing but the group itself.
    fn new(cgroup: ContainerCgroup) -> Self {
        Self {
            cgroup,
            controllers: Vec::new(),
            writes: Vec::new(),
            usage_check: None,
            device_program: None,
            owner: None,
        }
    }
}

impl FileWrite {
    /// One of the writes that a device policy is on version 1.
    fn of_devices(file: &'static str, value: String) -> Self {
        Self { file: file.into(), value, missing_ok: false, otherwise: None, field: Some("devices".into()) }
    }
}

impl CgroupPlan {
    /// Where the container's cgroups will be, for the mount of `/sys/fs/cgroup` and the state.
    pub fn cgroups(&self) -> ContainerCgroups {
        ContainerCgroups(self.groups.iter().map(|group| group.cgroup.clone()).collect())
    }

    /// The plan in words, a line a step.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = self.scope.as_ref().map(systemd::ScopePlan::describe).unwrap_or_default();
        for group in &self.groups {
            let hierarchy = &group.cgroup.hierarchy;
            let name = match hierarchy.version {
                crate::host::cgroups::Version::V2 => "version 2".to_owned(),
                crate::host::cgroups::Version::V1 => hierarchy.controllers.join(","),
            };
            let verb = if self.scope.is_some() { "use" } else { "make" };
            lines.push(format!("{verb} the control group {} ({name})", group.cgroup.dir().display()));
            if !group.controllers.is_empty() {
                lines.push(format!("have {} handed down to it", group.controllers.join(", ")));
            }
            if let Some(check) = &group.usage_check {
                lines.push(format!("see that {} is not above {}", check.file, check.limit));
            }
            for write in &group.writes {
                let condition = match &write.otherwise {
                    _ if write.missing_ok => ", if it is there".to_owned(),
                    Some((file, value)) => format!(", or if it is not there, {value:?} to {file}"),
                    None => String::new(),
                };
                lines.push(format!("write {:?} to {}{condition}", write.value, write.file));
            }
            if let Some(program) = &group.device_program {
                lines.push(format!("attach a device program of {} instructions: {}", program.len(), self.devices));
            }
            if let Some(owner) = group.owner {
                lines.push(format!("give it to user {owner}"));
            }
        }
        lines
    }
}

impl std::fmt::Display for DevicePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.allow { "allow all" } else { "deny all" })?;
        for rule in &self.rules {
            write!(f, ", {} {rule}", if rule.allow { "allow" } else { "deny" })?;
        }
        Ok(())
    }
}
