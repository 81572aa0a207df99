//! `linux.resources`: memory, process counts, huge pages, RDMA, the marks of network packets and files by name, as the
//! values of either version's files. CPUs and disks have files of their own beside this one.
//!
//! As engines send them, and runc takes them, 0 is "not set" and -1 is "no limit", unless a field says otherwise.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxRdma, LinuxResources};

use super::{FileWrite, GroupPlan, UsageCheck};
use crate::error::Faults;
use crate::host::cgroups::Version;

/// Files of version 2 that are not limits.
const NOT_RESOURCES: [&str; 7] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.kill",
    "cgroup.freeze",
    "cgroup.type",
    "cgroup.subtree_control",
    "cgroup.controllers",
];
/// What begins the names of files that every group of version 2 has.
const OF_EVERY_GROUP: [&str; 2] = ["cgroup", "irq"];

/// Puts resources where they belong among the groups of a plan.
pub(super) struct Resources<'a> {
    pub groups: &'a mut [GroupPlan],
    pub faults: &'a mut Faults,
    /// The groups are there, with values of their own: a value that a new group has anyway is written too.
    pub live: bool,
    /// Which groups these are.
    pub extent: Extent,
}

/// Which groups a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// One in every hierarchy of the machine.
    Machine,
    /// Those that the user may make.
    Delegated,
    /// None.
    Nothing,
}

impl Extent {
    /// What it means that no group has `controller`.
    fn lacks(self, controller: &str) -> String {
        match self {
            Self::Machine => format!("no control group hierarchy of this machine has the {controller:?} controller"),
            Self::Delegated => {
                format!("takes a control group with the {controller:?} controller, and none is delegated to this user")
            }
            Self::Nothing => {
                format!("takes a control group with the {controller:?} controller, and the container has none")
            }
        }
    }
}

/// What one resource's writes go to.
pub(super) struct Target<'a> {
    pub group: &'a mut GroupPlan,
    pub version: Version,
}

impl Target<'_> {
    /// `field` is what the value is of, below `linux.resources`.
    pub(super) fn write(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl Display,
    ) -> &mut FileWrite {
        let value = value.to_string();
        let write =
            FileWrite { file: file.into(), value, missing_ok: false, otherwise: None, field: Some(field.into()) };
        self.group.writes.push(write);
        let last = self.group.writes.len() - 1;
        &mut self.group.writes[last]
    }

    pub(super) fn write_if_there(&mut self, field: &'static str, file: &'static str, value: impl Display) {
        self.write(field, file, value).missing_ok = true;
    }
}

impl Resources<'_> {
    /// Puts everything of `resources` where it belongs, but for devices.
    pub(super) fn all(&mut self, resources: &LinuxResources) {
        self.memory(resources.memory().as_ref());
        self.cpu(resources.cpu().as_ref());
        self.cpuset(resources.cpu().as_ref());
        self.pids(resources.pids().as_ref());
        self.block_io(resources.block_io().as_ref());
        self.huge_pages(resources.hugepage_limits().as_deref());
        self.rdma(resources.rdma().as_ref());
        self.network(resources.network().as_ref());
        // Last: what is said of a file by its name is meant.
        self.unified(resources.unified().as_ref());
    }

    /// The group whose hierarchy has `controller`; it is a fault of `field` that none has.
    pub(super) fn target(&mut self, controller: &str, field: &str) -> Option<Target<'_>> {
        let Some(group) = self.groups.iter_mut().find(|group| group.cgroup.hierarchy.has(controller)) else {
            self.faults.unsupported(format!("linux.resources.{field}"), self.extent.lacks(controller));
            return None;
        };
        let version = group.cgroup.hierarchy.version;
        if version == Version::V2 && !group.controllers.iter().any(|name| name == controller) {
            group.controllers.push(controller.to_owned());
        }
        Some(Target { group, version })
    }

    pub(super) fn fault(&mut self, field: &str, what: impl Display) {
        self.faults.add(format!("linux.resources.{field}"), what);
    }

    pub(super) fn unsupported(&mut self, field: &str, what: impl Display) {
        self.faults.unsupported(format!("linux.resources.{field}"), what);
    }

    /// A limit as it is meant: `None` if not set, else a number or -1; less is a fault.
    pub(super) fn limit(&mut self, value: Option<i64>, field: &str) -> Option<i64> {
        let value = value.filter(|value| *value != 0)?;
        if value < -1 {
            self.fault(field, format_args!("{value} is less than -1"));
            return None;
        }
        Some(value)
    }

    fn memory(&mut self, memory: Option<&LinuxMemory>) {
        let Some(memory) = memory else { return };
        let limit = self.limit(memory.limit(), "memory.limit");
        let reservation = self.limit(memory.reservation(), "memory.reservation");
        let mut swap = self.limit(memory.swap(), "memory.swap");
        match (swap, limit) {
            (Some(sum @ 1..), Some(limit @ 1..)) if sum < limit => {
                self.fault(
                    "memory.swap",
                    format_args!("{sum} is memory and swap together, and less than memory.limit, {limit}"),
                );
                return;
            }
            (Some(sum @ 1..), None | Some(-1)) => {
                self.fault("memory.swap", format_args!("{sum} is memory and swap together, and needs a memory.limit"));
                return;
            }
            // As runc has it: no limit on memory is none on swap either, unless one is set.
            (None, Some(-1)) => swap = Some(-1),
            _ => {}
        }
        // The kernel frees what these limited, or never counted it: a limit cannot be kept, an unset one is not missed.
        #[allow(deprecated)]
        let kernel = [(memory.kernel(), "memory.kernel"), (memory.kernel_tcp(), "memory.kernelTCP")];
        for (value, field) in kernel {
            if self.limit(value, field).is_some_and(|value| value > 0) {
                self.unsupported(field, "the kernel has no limit on its own memory any more");
            }
        }
        // u64::MAX is how an engine's -1, the default, arrives.
        let swappiness = memory.swappiness().filter(|value| *value != u64::MAX);
        let oom_killer = memory.disable_oom_killer().filter(|keep_alive| *keep_alive || self.live);
        let set = limit.or(reservation).or(swap).is_some();
        if !set && swappiness.is_none() && oom_killer.is_none() {
            return;
        }
        let field = if limit.is_some() { "memory.limit" } else { "memory" };
        let Some(mut target) = self.target("memory", field) else { return };
        let version = target.version;
        let check = memory.check_before_update() == Some(true);
        if let Some(limit) = limit.filter(|limit| check && *limit > 0) {
            let file = if version == Version::V2 { "memory.current" } else { "memory.usage_in_bytes" };
            target.group.usage_check = Some(UsageCheck { file, limit: limit as u64 });
        }
        match version {
            Version::V2 => {
                if let Some(limit) = limit {
                    target.write("memory.limit", "memory.max", or_max(limit));
                }
                match swap {
                    // Without swap accounting there is no file; no swap and unlimited swap are then both true enough.
                    Some(-1) => target.write_if_there("memory.swap", "memory.swap.max", "max"),
                    Some(sum) => match sum - limit.unwrap_or(0) {
                        0 => target.write_if_there("memory.swap", "memory.swap.max", 0),
                        swap => drop(target.write("memory.swap", "memory.swap.max", swap)),
                    },
                    None => {}
                }
                if let Some(reservation) = reservation {
                    target.write("memory.reservation", "memory.low", or_max(reservation));
                }
                if swappiness.is_some() {
                    self.unsupported("memory.swappiness", "control groups of version 2 have none");
                }
                if oom_killer == Some(true) {
                    self.unsupported("memory.disableOOMKiller", "control groups of version 2 cannot do without it");
                }
            }
            Version::V1 => {
                if let Some(limit) = limit {
                    target.write("memory.limit", "memory.limit_in_bytes", limit);
                }
                match swap {
                    Some(-1) => target.write_if_there("memory.swap", "memory.memsw.limit_in_bytes", -1),
                    Some(sum) => drop(target.write("memory.swap", "memory.memsw.limit_in_bytes", sum)),
                    None => {}
                }
                if let Some(reservation) = reservation {
                    target.write("memory.reservation", "memory.soft_limit_in_bytes", reservation);
                }
                if let Some(keep_alive) = oom_killer {
                    target.write("memory.disableOOMKiller", "memory.oom_control", i32::from(keep_alive));
                }
                match swappiness {
                    Some(value @ 0..=100) => {
                        target.write("memory.swappiness", "memory.swappiness", value);
                    }
                    Some(value) => self.fault("memory.swappiness", format_args!("{value} is more than 100")),
                    None => {}
                }
            }
        }
    }

    /// 0 is a limit (config-linux.md, "PIDs"); what has none is without `pids` here. Nobody could be born under it on version
    /// 2, so it is written as 1, under which the container's first process can make no other either; runc does the same.
    fn pids(&mut self, pids: Option<&LinuxPids>) {
        let Some(limit) = pids.map(LinuxPids::limit) else { return };
        let limit = if limit == 0 { Some(1) } else { self.limit(Some(limit), "pids.limit") };
        let Some(limit) = limit else { return };
        if let Some(mut target) = self.target("pids", "pids.limit") {
            target.write("pids.limit", "pids.max", or_max(limit));
        }
    }

    /// Limits in bytes on the huge pages of a size, both when they are reserved and when they are touched
    /// (config-linux.md, "Huge page limits"; Documentation/admin-guide/cgroup-v1/hugetlb.rst).
    fn huge_pages(&mut self, limits: Option<&[LinuxHugepageLimit]>) {
        for (index, limit) in limits.unwrap_or_default().iter().enumerate() {
            let field = format!("hugepageLimits[{index}]");
            let (size, bytes) = (limit.page_size(), limit.limit());
            if !is_page_size(size) {
                self.fault(&format!("{field}.pageSize"), format_args!("{size:?} is not a page size such as \"2MB\""));
                continue;
            }
            let Ok(bytes) = u64::try_from(bytes) else {
                self.fault(&format!("{field}.limit"), format_args!("{bytes} is less than 0"));
                continue;
            };
            let Some(mut target) = self.target("hugetlb", &field) else { return };
            let file = if target.version == Version::V2 { "max" } else { "limit_in_bytes" };
            target.write(format!("{field}.limit"), format!("hugetlb.{size}.{file}"), bytes);
            target.write(format!("{field}.limit"), format!("hugetlb.{size}.rsvd.{file}"), bytes);
        }
    }

    /// The class and the priorities that packets get, which version 1 alone has (config-linux.md, "Network").
    fn network(&mut self, network: Option<&LinuxNetwork>) {
        let Some(network) = network else { return };
        if let Some(class) = network.class_id().filter(|class| *class != 0)
            && let Some(mut target) = self.target("net_cls", "network.classID")
        {
            target.write("network.classID", "net_cls.classid", class);
        }
        for (index, priority) in network.priorities().iter().flatten().enumerate() {
            let field = format!("network.priorities[{index}]");
            let name = priority.name();
            // The kernel's own rule for names of interfaces, which also keeps the value to one line and two words.
            if name.is_empty()
                || name.len() > 15
                || name.contains(|c: char| c.is_ascii_whitespace() || "/:\0".contains(c))
            {
                self.fault(&format!("{field}.name"), format_args!("{name:?} is not the name of an interface"));
                continue;
            }
            let Some(mut target) = self.target("net_prio", &field) else { return };
            target.write(field, "net_prio.ifpriomap", format_args!("{name} {}", priority.priority()));
        }
    }

    /// Limits on the handles and objects of RDMA devices (Documentation/admin-guide/cgroup-v1/rdma.rst).
    fn rdma(&mut self, devices: Option<&HashMap<String, LinuxRdma>>) {
        for (name, limits) in sorted(devices) {
            let field = format!("rdma[{name:?}]");
            if name.is_empty() || name.contains(|c: char| c.is_ascii_whitespace() || c == '\0') {
                self.fault(&field, "is not the name of an RDMA device");
                continue;
            }
            let words = [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())];
            let words = words.iter().filter_map(|(word, limit)| limit.map(|limit| format!(" {word}={limit}")));
            let words: String = words.collect();
            if words.is_empty() {
                continue;
            }
            let Some(mut target) = self.target("rdma", &field) else { return };
            target.write(field, "rdma.max", format_args!("{name}{words}"));
        }
    }

    /// Files of version 2 by their names (config-linux.md, "Unified"); a value of several lines is written line by line,
    /// as the kernel takes it.
    fn unified(&mut self, files: Option<&HashMap<String, String>>) {
        for (file, value) in sorted(files) {
            let field = format!("unified[{file:?}]");
            let controller = file.split('.').next().unwrap_or_default();
            if file.contains(['/', '\0', '\n']) || !file.contains('.') || controller.is_empty() {
                self.fault(&field, "is not the name of a control group's file, CONTROLLER.NAME");
                continue;
            }
            if NOT_RESOURCES.contains(&file.as_str()) {
                self.fault(&field, "is no resource: it moves, stops or ends processes, or is procrt's to write");
                continue;
            }
            let of_group = OF_EVERY_GROUP.contains(&controller);
            let group = self.groups.iter_mut().find(|group| {
                let hierarchy = &group.cgroup.hierarchy;
                hierarchy.version == Version::V2 && (of_group || hierarchy.has(controller))
            });
            let Some(group) = group else {
                let what = match self.extent {
                    Extent::Machine => {
                        format!("no version 2 hierarchy of this machine has the {controller:?} controller")
                    }
                    other => other.lacks(controller),
                };
                self.unsupported(&field, what);
                continue;
            };
            if !of_group && !group.controllers.iter().any(|name| name == controller) {
                group.controllers.push(controller.to_owned());
            }
            let mut target = Target { group, version: Version::V2 };
            for line in value.lines().filter(|line| !line.is_empty()) {
                target.write(field.clone(), file.clone(), line);
            }
        }
    }
}

/// A map's entries in the order of their keys: what is written is the same each time.
fn sorted<T>(map: Option<&HashMap<String, T>>) -> Vec<(&String, &T)> {
    let mut entries: Vec<_> = map.into_iter().flatten().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

/// A limit in cgroup2's words.
pub(super) fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// Whether `text` is of the form in which the kernel names page sizes in files: a power of two, and a unit.
fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0'));
    digits.and_then(|number| number.parse::<u64>().ok()).is_some_and(u64::is_power_of_two)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_told_from_other_text() {
        for good in ["64KB", "2MB", "1GB", "512MB"] {
            assert!(is_page_size(good), "{good}");
        }
        for bad in ["3MB", "0MB", "02MB", "MB", "2M", "2 MB", "+2MB", "../2MB", "2TB", ""] {
            assert!(!is_page_size(bad), "{bad}");
        }
    }
}
