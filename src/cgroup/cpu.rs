//! `linux.resources.cpu`: CPU time, and the CPUs and memory nodes to run on.

use oci_spec::runtime::LinuxCpu;

use super::resources::{Resources, or_max};
use crate::host::cgroups::Version;

/// The kernel's least and greatest CPU period and least quota, in microseconds (`kernel/sched/core.c`).
const PERIOD_RANGE: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// The period that cgroup2 documents as its default, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;
/// The kernel's least and greatest `cpu.shares`.
const SHARES_RANGE: std::ops::RangeInclusive<u64> = 2..=262_144;

impl Resources<'_> {
    pub(super) fn cpu(&mut self, cpu: Option<&LinuxCpu>) {
        let Some(cpu) = cpu else { return };
        let shares = cpu.shares().filter(|value| *value != 0);
        let period = cpu.period().filter(|value| *value != 0);
        let quota = self.limit(cpu.quota(), "cpu.quota");
        // A group that is there may have another value than a new one: what is said of it then counts.
        let burst = cpu.burst().filter(|value| *value != 0 || self.live);
        let idle = cpu.idle().filter(|value| *value != 0 || self.live);
        let runtime = self.limit(cpu.realtime_runtime(), "cpu.realtimeRuntime");
        let realtime_period = cpu.realtime_period().filter(|value| *value != 0);
        if let Some(period) = period.filter(|value| !PERIOD_RANGE.contains(value)) {
            self.fault("cpu.period", format_args!("{period} is not from 1000 to 1000000 microseconds"));
        }
        if let Some(quota @ 1..1_000) = quota {
            self.fault("cpu.quota", format_args!("{quota} is less than 1000 microseconds"));
        }
        let too_much = |burst: &u64| *burst > 0 && quota.is_none_or(|quota| quota < 0 || *burst > quota as u64);
        if let Some(burst) = burst.filter(too_much) {
            self.fault("cpu.burst", format_args!("{burst} is more than cpu.quota"));
        }
        if let Some(idle) = idle.filter(|idle| !(0..=1).contains(idle)) {
            self.fault("cpu.idle", format_args!("{idle} is neither 0 nor 1"));
        }
        let realtime = runtime.is_some() || realtime_period.is_some();
        if shares.or(period).or(burst).is_none() && quota.or(idle).is_none() && !realtime {
            return;
        }
        let Some(mut target) = self.target("cpu", "cpu") else { return };
        let v2 = target.version == Version::V2;
        // The kernel gives an idle group the least weight, takes no other, and forgets the one that it had.
        if idle == Some(0) {
            target.write_if_there("cpu.idle", "cpu.idle", 0);
        }
        if let Some(shares) = shares.filter(|_| idle != Some(1)) {
            if v2 {
                target.write("cpu.shares", "cpu.weight", weight(shares));
            } else {
                target.write("cpu.shares", "cpu.shares", shares);
            }
        }
        if v2 && (quota.is_some() || period.is_some()) {
            let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
            let value = format!("{} {}", or_max(quota.unwrap_or(-1)), period.unwrap_or(DEFAULT_PERIOD));
            target.write(field, "cpu.max", value);
        }
        if let Some(period) = period.filter(|_| !v2) {
            target.write("cpu.period", "cpu.cfs_period_us", period);
        }
        if let Some(quota) = quota.filter(|_| !v2) {
            target.write("cpu.quota", "cpu.cfs_quota_us", quota);
        }
        if let Some(burst) = burst {
            let file = if v2 { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
            target.write("cpu.burst", file, burst).missing_ok = burst == 0;
        }
        if idle == Some(1) {
            target.write("cpu.idle", "cpu.idle", 1);
        }
        if v2 {
            if realtime {
                self.unsupported("cpu", "control groups of version 2 have no realtimeRuntime and realtimePeriod");
            }
            return;
        }
        if let Some(period) = realtime_period {
            target.write("cpu.realtimePeriod", "cpu.rt_period_us", period);
        }
        if let Some(runtime) = runtime {
            target.write("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime);
        }
        // The kernel would put another number in its place.
        if let Some(shares) = shares.filter(|value| !SHARES_RANGE.contains(value)) {
            self.fault("cpu.shares", format_args!("{shares} is not from 2 to 262144"));
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
                target.write(field, file, list);
            }
        }
    }
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
    fn lists_of_cpus_are_told_from_other_text() {
        for good in ["0", "0-3,6", "1, 2-2"] {
            assert!(is_list(good), "{good}");
        }
        for bad in ["3-1", "a", "0-", "1,,2", "-1"] {
            assert!(!is_list(bad), "{bad}");
        }
    }
}
