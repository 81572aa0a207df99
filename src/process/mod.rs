//! The container's process: who it is, what it may, what it runs and where.

mod activation;
mod affinity;
mod apply;
mod command;
pub mod memory_policy;
mod numbers;
mod plan;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sys::process::SchedulerAttributes;

pub use activation::Activation;
pub use apply::{
    become_user, drop_to_final_capabilities, enter_cwd, forget_affinity, new_session_keyring, set_affinity, set_limits,
    set_oom_score, with_affinity,
};
pub use command::Command;
pub use memory_policy::MemoryPolicy;
pub use plan::{capability_bit, plan, plan_joining, set_variable};

/// Capability sets as bit masks, bit N for capability number N.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // capabilities(7)'s names
pub struct CapabilitySets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*`, the name.
    pub name: String,
    /// `RLIMIT_*`, the number.
    pub resource: u32,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// The CPUs for a process that joins a container (`process.execCPUAffinity`); empty: whatever the kernel makes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecAffinity {
    /// Those of whoever makes it, before it is in the container's control groups.
    pub initial: Vec<usize>,
    /// Its own, from then on.
    pub last: Vec<usize>,
}

impl ExecAffinity {
    fn is_none(&self) -> bool {
        self.initial.is_empty() && self.last.is_empty()
    }
}

/// Everything about the container's process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// The command line; empty if the configuration has no process.
    pub args: Vec<String>,
    /// The environment, `KEY=value` each.
    pub env: Vec<String>,
    /// The working directory, absolute, inside the root.
    pub cwd: PathBuf,
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
    /// Capabilities; all empty where the configuration has none.
    pub capabilities: CapabilitySets,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// `no_new_privs` (prctl(2)).
    pub no_new_privileges: bool,
    /// The OOM killer's adjustment.
    pub oom_score_adj: Option<i32>,
    /// The execution domain (personality(2)).
    pub personality: Option<u64>,
    /// The memory policy (set_mempolicy(2)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// The scheduling policy (sched_setattr(2)).
    pub scheduler: Option<SchedulerAttributes>,
    /// The I/O priority: class and level (ioprio_set(2)).
    pub io_priority: Option<(u16, u16)>,
    /// The CPUs of processes that join the container later; not for the first one.
    #[serde(default, skip_serializing_if = "ExecAffinity::is_none")]
    pub exec_affinity: ExecAffinity,
    /// The AppArmor profile from execve on.
    pub apparmor_profile: Option<String>,
    /// The SELinux label from execve on.
    pub selinux_label: Option<String>,
}

impl ProcessPlan {
    /// Whether the configuration has no process.
    pub fn is_missing(&self) -> bool {
        self.args.is_empty()
    }

    /// What will be done, in words.
    pub fn describe(&self) -> Vec<String> {
        if self.is_missing() {
            return vec!["run nothing: process is missing".to_owned()];
        }
        let mut lines = vec![
            format!("run {:?} in {}", self.args, self.cwd.display()),
            format!(
                "as user {}, group {}{}",
                self.uid,
                self.gid,
                match self.groups.as_slice() {
                    [] => String::new(),
                    groups => format!(", also in {groups:?}"),
                }
            ),
        ];
        let sets = &self.capabilities;
        let all = [sets.bounding, sets.effective, sets.permitted];
        if all.iter().all(|set| *set == sets.bounding) {
            lines.push(format!("capabilities: {}", names_of(sets.bounding)));
        } else {
            for (name, set) in
                [("bounding", sets.bounding), ("permitted", sets.permitted), ("effective", sets.effective)]
            {
                lines.push(format!("{name} capabilities: {}", names_of(set)));
            }
        }
        for (name, set) in [("inheritable", sets.inheritable), ("ambient", sets.ambient)] {
            if set != 0 {
                lines.push(format!("{name} capabilities: {}", names_of(set)));
            }
        }
        lines.push(format!("new privileges by execve: {}", if self.no_new_privileges { "no" } else { "yes" }));
        lines.extend(
            self.rlimits
                .iter()
                .map(|limit| format!("{} {} (at most {})", limit.name, shown(limit.soft), shown(limit.hard))),
        );
        lines.extend(self.oom_score_adj.map(|score| format!("OOM score adjustment {score}")));
        lines.extend(self.personality.map(|domain| format!("personality {domain:#x}")));
        lines.extend(self.memory_policy.iter().map(MemoryPolicy::describe));
        lines.extend(self.scheduler.map(|scheduler| format!("scheduling policy {}", scheduler.policy)));
        lines.extend(self.io_priority.map(|(class, level)| format!("I/O priority class {class}, level {level}")));
        for (when, cpus) in [("before", &self.exec_affinity.initial), ("in", &self.exec_affinity.last)] {
            if !cpus.is_empty() {
                lines.push(format!("processes that join later: CPUs {cpus:?} {when} the control groups"));
            }
        }
        lines.extend(self.apparmor_profile.iter().map(|profile| format!("AppArmor profile {profile:?}")));
        lines.extend(self.selinux_label.iter().map(|label| format!("SELinux label {label:?}")));
        lines
    }
}

fn shown(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

fn names_of(set: u64) -> String {
    let mut known: Vec<caps::Capability> = caps::all().into_iter().collect();
    known.sort_by_key(caps::Capability::index);
    let in_set = known.into_iter().filter(|capability| set & (1 << capability.index()) != 0);
    let names: Vec<String> = in_set.map(|capability| capability.to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}
