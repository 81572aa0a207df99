//! The NUMA memory policy of the container's processes (config-linux.md, "Memory policy"; set_mempolicy(2)).

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};
use serde::{Deserialize, Serialize};

use super::numbers;
use crate::error::{Context, Faults, Result};
use crate::sys::memory;

/// The modes that are understood.
pub const MODES: [MemoryPolicyModeType; 7] = [
    MemoryPolicyModeType::MpolDefault,
    MemoryPolicyModeType::MpolBind,
    MemoryPolicyModeType::MpolInterleave,
    MemoryPolicyModeType::MpolWeightedInterleave,
    MemoryPolicyModeType::MpolPreferred,
    MemoryPolicyModeType::MpolPreferredMany,
    MemoryPolicyModeType::MpolLocal,
];

/// The flags that are understood.
pub const FLAGS: [MemoryPolicyFlagType; 3] = [
    MemoryPolicyFlagType::MpolFNumaBalancing,
    MemoryPolicyFlagType::MpolFRelativeNodes,
    MemoryPolicyFlagType::MpolFStaticNodes,
];

/// `MPOL_*` of linux/mempolicy.h.
fn mode_number(mode: MemoryPolicyModeType) -> u32 {
    match mode {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    }
}

/// `MPOL_F_*` of linux/mempolicy.h.
fn flag_number(flag: MemoryPolicyFlagType) -> u32 {
    match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
    }
}

/// A memory policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// The mode and its flags by name, separated by `|`.
    pub name: String,
    /// The same as set_mempolicy(2) takes them.
    pub mode: u32,
    /// The nodes.
    pub nodes: Vec<usize>,
}

impl MemoryPolicy {
    /// The policy in words.
    pub(super) fn describe(&self) -> String {
        match self.nodes.as_slice() {
            [] => format!("memory policy {}", self.name),
            nodes => format!("memory policy {} on nodes {nodes:?}", self.name),
        }
    }

    /// Makes it this process's.
    ///
    /// # Errors
    /// As set_mempolicy(2).
    pub(super) fn set(&self) -> Result<()> {
        memory::set_memory_policy(self.mode, &self.nodes)
            .context(|| format!("linux.memoryPolicy: set {} on nodes {:?}", self.name, self.nodes))
    }
}

/// Decides on `linux.memoryPolicy`. What set_mempolicy(2) refuses on every machine is refused here.
pub(super) fn plan(policy: &LinuxMemoryPolicy, faults: &mut Faults) -> MemoryPolicy {
    use MemoryPolicyFlagType::{MpolFNumaBalancing, MpolFRelativeNodes, MpolFStaticNodes};
    use MemoryPolicyModeType::{MpolBind, MpolDefault, MpolLocal, MpolPreferred, MpolPreferredMany};

    if !memory::has_memory_policies() {
        faults.unsupported("linux.memoryPolicy", "this kernel has no memory policies");
    }
    let mode = policy.mode();
    let text = policy.nodes().as_deref().unwrap_or_default();
    let nodes = numbers::list(text, memory::MOST_NODES);
    match &nodes {
        None => faults.add(
            "linux.memoryPolicy.nodes",
            format_args!("{text:?} is not a list of nodes below {}, such as 0-3,7", memory::MOST_NODES),
        ),
        Some(nodes) if matches!(mode, MpolDefault | MpolLocal) && !nodes.is_empty() => {
            faults.add("linux.memoryPolicy.nodes", format_args!("{text:?}: {mode} takes no nodes"));
        }
        Some(nodes) if !matches!(mode, MpolDefault | MpolLocal | MpolPreferred) && nodes.is_empty() => {
            faults.add("linux.memoryPolicy.nodes", format_args!("{mode} needs at least one node"));
        }
        Some(_) => {}
    }
    let flags = policy.flags().as_deref().unwrap_or_default();
    for (index, flag) in flags.iter().enumerate() {
        let path = || format!("linux.memoryPolicy.flags[{index}]");
        match flag {
            MpolFNumaBalancing if !matches!(mode, MpolBind | MpolPreferredMany) => {
                faults.add(path(), format_args!("{flag} is for {MpolBind} and {MpolPreferredMany} alone"));
            }
            MpolFRelativeNodes if flags.contains(&MpolFStaticNodes) => {
                faults.add(path(), format_args!("{flag} and {MpolFStaticNodes} exclude each other"));
            }
            MpolFRelativeNodes | MpolFStaticNodes if nodes.as_ref().is_some_and(Vec::is_empty) => {
                faults.add(path(), format_args!("{flag} needs nodes"));
            }
            _ => {}
        }
    }
    let mut plan = MemoryPolicy { name: mode.to_string(), mode: mode_number(mode), nodes: nodes.unwrap_or_default() };
    for flag in flags {
        plan.name.extend(["|", &flag.to_string()]);
        plan.mode |= flag_number(*flag);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(policy: &str) -> (MemoryPolicy, String) {
        let mut faults = Faults::default();
        let plan = plan(&serde_json::from_str(policy).unwrap(), &mut faults);
        (plan, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn modes_and_flags_have_the_kernels_numbers() {
        if !memory::has_memory_policies() {
            return;
        }
        let (plan, faults) =
            planned(r#"{"mode":"MPOL_BIND","nodes":"0-1,3","flags":["MPOL_F_STATIC_NODES","MPOL_F_NUMA_BALANCING"]}"#);
        assert_eq!(faults, "");
        assert_eq!((plan.mode, plan.nodes.as_slice()), (2 | 1 << 15 | 1 << 13, [0, 1, 3].as_slice()));
        assert_eq!(
            plan.describe(),
            "memory policy MPOL_BIND|MPOL_F_STATIC_NODES|MPOL_F_NUMA_BALANCING on nodes [0, 1, 3]"
        );
        let (plan, faults) = planned(r#"{"mode":"MPOL_LOCAL"}"#);
        assert_eq!((plan.mode, faults.as_str(), plan.describe().as_str()), (4, "", "memory policy MPOL_LOCAL"));
        let numbers: Vec<u32> = MODES.into_iter().map(mode_number).collect();
        assert_eq!(numbers, [0, 2, 3, 6, 1, 5, 4]);
    }

    #[test]
    fn what_the_kernel_takes_nowhere_is_a_fault() {
        if !memory::has_memory_policies() {
            return;
        }
        for (policy, expected) in [
            (r#"{"mode":"MPOL_DEFAULT","nodes":"0"}"#, r#"nodes: "0": MPOL_DEFAULT takes no nodes"#),
            (r#"{"mode":"MPOL_LOCAL","nodes":"0"}"#, r#"nodes: "0": MPOL_LOCAL takes no nodes"#),
            (r#"{"mode":"MPOL_BIND"}"#, "nodes: MPOL_BIND needs at least one node"),
            (r#"{"mode":"MPOL_INTERLEAVE","nodes":""}"#, "nodes: MPOL_INTERLEAVE needs at least one node"),
            (
                r#"{"mode":"MPOL_BIND","nodes":"1024"}"#,
                r#"nodes: "1024" is not a list of nodes below 1024, such as 0-3,7"#,
            ),
            (
                r#"{"mode":"MPOL_INTERLEAVE","nodes":"0","flags":["MPOL_F_NUMA_BALANCING"]}"#,
                "flags[0]: MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY alone",
            ),
            (
                r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}"#,
                "flags[1]: MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other",
            ),
            (
                r#"{"mode":"MPOL_PREFERRED","flags":["MPOL_F_STATIC_NODES"]}"#,
                "flags[0]: MPOL_F_STATIC_NODES needs nodes",
            ),
        ] {
            assert_eq!(planned(policy).1, format!("linux.memoryPolicy.{expected}"));
        }
        assert_eq!(planned(r#"{"mode":"MPOL_PREFERRED"}"#).1, "");
    }
}
