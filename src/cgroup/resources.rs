//! `linux.resources`: memory, CPU time, CPU sets, process counts, huge pages and the marks of network packets, as the values
//! of either version's files.
//!
//! As engines send them, and runc takes them, 0 is "not set" and -1 is "no limit", unless a field says otherwise.

use std::borrow::Cow;
use std::fmt::Display;

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids};

use super::{FileWrite, GroupPlan, UsageCheck};
use crate::error::Faults;
use crate::host::cgroups::Version;

/// The kernel's least and greatest CPU period and least quota, in microseconds (`kernel/sched/core.c`).
const PERIOD_RANGE: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// The period that cgroup2 documents as its default, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;
/// The kernel's least and greatest `cpu.shares`.
const SHARES_RANGE: std::ops::RangeInclusive<u64> = 2..=262_144;

/// Puts resources where they belong among the groups of a plan.
pub(super) struct Resources<'a> {
    pub groups: &'a mut [GroupPlan],
    pub faults: &'a mut Faults,
}

/// What one resource's writes go to.
struct Target<'a> {
    group: &'a mut GroupPlan,
    version: Version,
}

impl Target<'_> {
    fn write(&mut self, file: impl Into<Cow<'static, str>>, value: impl Display) {
        self.group.writes.push(FileWrite { file: file.into(), value: value.to_string(), missing_ok: false });
    }

    fn write_if_there(&mut self, file: &'static str, value: impl Display) {
        self.group.writes.push(FileWrite { file: file.into(), value: value.to_string(), missing_ok: true });
    }
}

impl Resources<'_> {
    /// The group whose hierarchy has `controller`; it is a fault of `field` that none has.
    fn target(&mut self, controller: &str, field: &str) -> Option<Target<'_>> {
        let Some(group) = self.groups.iter_mut().find(|group| group.cgroup.hierarchy.has(controller)) else {
            self.faults.unsupported(
                format!("linux.resources.{field}"),
                format_args!("no control group hierarchy of this machine has the {controller:?} controller"),
            );
            return None;
        };
        let version = group.cgroup.hierarchy.version;
        if version == Version::V2 && !group.controllers.iter().any(|name| name == controller) {
            group.controllers.push(controller.to_owned());
        }
        Some(Target { group, version })
    }

    fn fault(&mut self, field: &str, what: impl Display) {
        self.faults.add(format!("linux.resources.{field}"), what);
    }

    fn unsupported(&mut self, field: &str, what: impl Display) {
        self.faults.unsupported(format!("linux.resources.{field}"), what);
    }

    /// A limit as it is meant: `None` if not set, else a number or -1; less is a fault.
    fn limit(&mut self, value: Option<i64>, field: &str) -> Option<i64> {
        let value = value.filter(|value| *value != 0)?;
        if value < -1 {
            self.fault(field, format_args!("{value} is less than -1"));
            return None;
        }
        Some(value)
    }

    pub(super) fn memory(&mut self, memory: Option<&LinuxMemory>) {
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
        let keep_alive = memory.disable_oom_killer() == Some(true);
        let set = limit.or(reservation).or(swap).is_some();
        if !set && swappiness.is_none() && !keep_alive {
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
                    target.write("memory.max", or_max(limit));
                }
                match swap {
                    // Without swap accounting there is no file; no swap and unlimited swap are then both true enough.
                    Some(-1) => target.write_if_there("memory.swap.max", "max"),
                    Some(sum) => match sum - limit.unwrap_or(0) {
                        0 => target.write_if_there("memory.swap.max", 0),
                        swap => target.write("memory.swap.max", swap),
                    },
                    None => {}
                }
                if let Some(reservation) = reservation {
                    target.write("memory.low", or_max(reservation));
                }
                if swappiness.is_some() {
                    self.unsupported("memory.swappiness", "control groups of version 2 have none");
                }
                if keep_alive {
                    self.unsupported("memory.disableOOMKiller", "control groups of version 2 cannot do without it");
                }
            }
            Version::V1 => {
                if let Some(limit) = limit {
                    target.write("memory.limit_in_bytes", limit);
                }
                match swap {
                    Some(-1) => target.write_if_there("memory.memsw.limit_in_bytes", -1),
                    Some(sum) => target.write("memory.memsw.limit_in_bytes", sum),
                    None => {}
                }
                if let Some(reservation) = reservation {
                    target.write("memory.soft_limit_in_bytes", reservation);
                }
                if keep_alive {
                    target.write("memory.oom_control", 1);
                }
                match swappiness {
                    Some(value @ 0..=100) => target.write("memory.swappiness", value),
                    Some(value) => self.fault("memory.swappiness", format_args!("{value} is more than 100")),
                    None => {}
                }
            }
        }
    }

    pub(super) fn cpu(&mut self, cpu: Option<&LinuxCpu>) {
        let Some(cpu) = cpu else { return };
        let shares = cpu.shares().filter(|value| *value != 0);
        let period = cpu.period().filter(|value| *value != 0);
        let quota = self.limit(cpu.quota(), "cpu.quota");
        let burst = cpu.burst().filter(|value| *value != 0);
        let idle = cpu.idle().filter(|value| *value != 0);
        let runtime = self.limit(cpu.realtime_runtime(), "cpu.realtimeRuntime");
        let realtime_period = cpu.realtime_period().filter(|value| *value != 0);
        if let Some(period) = period.filter(|value| !PERIOD_RANGE.contains(value)) {
            self.fault("cpu.period", format_args!("{period} is not from 1000 to 1000000 microseconds"));
        }
        if let Some(quota @ 1..1_000) = quota {
            self.fault("cpu.quota", format_args!("{quota} is less than 1000 microseconds"));
        }
        if let Some(burst) = burst.filter(|burst| quota.is_none_or(|quota| quota < 0 || *burst > quota as u64)) {
            self.fault("cpu.burst", format_args!("{burst} is more than cpu.quota"));
        }
        if let Some(idle) = idle.filter(|idle| *idle != 1) {
            self.fault("cpu.idle", format_args!("{idle} is neither 0 nor 1"));
        }
        let realtime = runtime.is_some() || realtime_period.is_some();
        if shares.or(period).or(burst).is_none() && quota.or(idle).is_none() && !realtime {
            return;
        }
        let Some(mut target) = self.target("cpu", "cpu") else { return };
        match target.version {
            Version::V2 => {
                // A group that is idle takes no weight: the weight goes first.
                if let Some(shares) = shares {
                    target.write("cpu.weight", weight(shares));
                }
                if quota.is_some() || period.is_some() {
                    let value = format!("{} {}", or_max(quota.unwrap_or(-1)), period.unwrap_or(DEFAULT_PERIOD));
                    target.write("cpu.max", value);
                }
                if let Some(burst) = burst {
                    target.write("cpu.max.burst", burst);
                }
                if let Some(idle) = idle {
                    target.write("cpu.idle", idle);
                }
                if realtime {
                    self.unsupported("cpu", "control groups of version 2 have no realtimeRuntime and realtimePeriod");
                }
            }
            Version::V1 => {
                if let Some(shares) = shares {
                    target.write("cpu.shares", shares);
                }
                if let Some(period) = period {
                    target.write("cpu.cfs_period_us", period);
                }
                if let Some(quota) = quota {
                    target.write("cpu.cfs_quota_us", quota);
                }
                if let Some(burst) = burst {
                    target.write("cpu.cfs_burst_us", burst);
                }
                if let Some(idle) = idle {
                    target.write("cpu.idle", idle);
                }
                if let Some(period) = realtime_period {
                    target.write("cpu.rt_period_us", period);
                }
                if let Some(runtime) = runtime {
                    target.write("cpu.rt_runtime_us", runtime);
                }
                // The kernel would put another number in its place.
                if let Some(shares) = shares.filter(|value| !SHARES_RANGE.contains(value)) {
                    self.fault("cpu.shares", format_args!("{shares} is not from 2 to 262144"));
                }
            }
        }
    }

    pub(super) fn cpuset(&mut self, cpu: Option<&LinuxCpu>) {
        let Some(cpu) = cpu else { return };
        let lists = [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())];
        for (field, file, list) in lists {
            let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else { continue };
            if !is_list(list) {
                self.fault(field, format_args!("{list:?} is not a list such as \"0-3,6\""));
            } else if let Some(mut target) = self.target("cpuset", field) {
                target.write(file, list);
            }
        }
    }

    /// A limit of 0 is no limit, as runc had it up to 1.3: the specification's "not set" arrives here as 0 too.
    pub(super) fn pids(&mut self, pids: Option<&LinuxPids>) {
        let Some(limit) = self.limit(pids.map(LinuxPids::limit), "pids.limit") else { return };
        if let Some(mut target) = self.target("pids", "pids.limit") {
            target.write("pids.max", or_max(limit));
        }
    }

    /// Limits in bytes on the huge pages of a size, both when they are reserved and when they are touched
    /// (config-linux.md, "Huge page limits"; Documentation/admin-guide/cgroup-v1/hugetlb.rst).
    pub(super) fn huge_pages(&mut self, limits: Option<&[LinuxHugepageLimit]>) {
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
            target.write(format!("hugetlb.{size}.{file}"), bytes);
            target.write(format!("hugetlb.{size}.rsvd.{file}"), bytes);
        }
    }

    /// The class and the priorities that packets get, which version 1 alone has (config-linux.md, "Network").
    pub(super) fn network(&mut self, network: Option<&LinuxNetwork>) {
        let Some(network) = network else { return };
        if let Some(class) = network.class_id().filter(|class| *class != 0)
            && let Some(mut target) = self.target("net_cls", "network.classID")
        {
            target.write("net_cls.classid", class);
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
            target.write("net_prio.ifpriomap", format_args!("{name} {}", priority.priority()));
        }
    }
}

/// A limit in cgroup2's words.
fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// `cpu.shares` as `cpu.weight`: the curve through (2, 1), (1024, 100) and (262144, 10000) that runc and crun agreed on
/// in 2025, a parabola on logarithmic axes.
fn weight(shares: u64) -> u64 {
    if shares <= *SHARES_RANGE.start() {
        return 1;
    }
    if shares >= *SHARES_RANGE.end() {
        return 10_000;
    }
    let doublings = f64::from(shares as u32).log2();
    let exponent = doublings * (doublings + 125.0) / 612.0 - 7.0 / 34.0;
    10_f64.powf(exponent).ceil() as u64
}

/// Whether `text` is of the form in which the kernel names page sizes in files: a power of two, and a unit.
fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0'));
    digits.and_then(|number| number.parse::<u64>().ok()).is_some_and(u64::is_power_of_two)
}

/// Whether the kernel's list format (cpuset(7)) can be meant: numbers and ranges, with commas between.
fn is_list(text: &str) -> bool {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last),
        None => number(part).is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weight_on_the_agreed_curve() {
        let pairs = [
            (1, 1),
            (2, 1),
            (1024, 100),
            (512, 59),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ];
        for (shares, expected) in pairs {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn page_sizes_are_told_from_other_text() {
        for good in ["64KB", "2MB", "1GB", "512MB"] {
            assert!(is_page_size(good), "{good}");
        }
        for bad in ["3MB", "0MB", "02MB", "MB", "2M", "2 MB", "+2MB", "../2MB", "2TB", ""] {
            assert!(!is_page_size(bad), "{bad}");
        }
    }

    #[test]
    fn lists_of_cpus_are_told_from_other_text() {
        for good in ["0", "0-3,6", "1, 2-2"] {
            assert!(is_list(good), "{good}");
        }
        for bad in ["3-1", "a", "0-", "1,,2", "-1"] {
            assert!(!is_list(bad), "{bad}");
        }
    }
}
