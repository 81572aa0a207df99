//! What a container's control groups have counted, in the form in which runc prints it, which scripts read. A value that
//! this kernel or this machine does not count is 0, or not there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Cgroup;
use crate::host::cgroups::Version;

mod block_io;
mod memory;

pub use block_io::BlockIo;
pub use memory::Memory;

/// All that is counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// The CPUs and memory nodes (version 1).
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Disks.
    pub blkio: BlockIo,
    /// Huge pages, by their size.
    pub hugetlb: BTreeMap<String, HugePages>,
    /// Nothing: Intel's resource director is not asked.
    pub intel_rdt: IntelRdt,
    /// Nothing: procrt makes no network interfaces.
    pub network_interfaces: Option<()>,
}

/// An empty object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IntelRdt {}

/// CPU time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// What was used.
    pub usage: CpuUsage,
    /// How often it had to wait for its quota.
    pub throttling: Throttling,
    /// How much it had to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// CPU time that was used, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// On each CPU (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// On each CPU in the kernel (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// On each CPU in programs (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// How a quota held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which it ran.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Periods in which it was stopped.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// How long it was stopped, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one task had to wait.
    pub some: PressureLine,
    /// All tasks had to wait at once.
    pub full: PressureLine,
}

/// Shares of time in percent over the last seconds, and a total in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PressureLine {
    /// Over 10 seconds.
    pub avg10: f64,
    /// Over a minute.
    pub avg60: f64,
    /// Over five minutes.
    pub avg300: f64,
    /// Since the beginning.
    pub total: u64,
}

/// A version 1 cpuset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the names of the kernel's files
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// How many there may be; 0 if there is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// What is in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that was in use (version 1).
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Cgroup {
    /// What the container's control groups have counted up to now.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for cgroup in &self.cgroups().0 {
            let hierarchy = &cgroup.hierarchy;
            let dir = Files(cgroup.dir());
            if hierarchy.version == Version::V2 {
                stats.add_v2(&dir);
                continue;
            }
            for controller in &hierarchy.controllers {
                stats.add_v1(controller, &dir);
            }
        }
        stats
    }
}

impl Stats {
    fn add_v2(&mut self, dir: &Files) {
        let cpu = dir.keyed("cpu.stat");
        // On a hybrid machine the group counts nothing of what version 1 does.
        if dir.has("cpu.pressure") || dir.has("cpu.max") {
            self.cpu.usage.total = of(&cpu, "usage_usec") * 1000;
            self.cpu.usage.kernel = of(&cpu, "system_usec") * 1000;
            self.cpu.usage.user = of(&cpu, "user_usec") * 1000;
            self.cpu.throttling = Throttling {
                periods: of(&cpu, "nr_periods"),
                throttled_periods: of(&cpu, "nr_throttled"),
                throttled_time: of(&cpu, "throttled_usec") * 1000,
            };
        }
        self.cpu.psi = self.cpu.psi.take().or_else(|| dir.pressure("cpu.pressure"));
        if dir.has("memory.current") {
            self.memory = Memory::of_v2(dir);
        }
        self.add_pids(dir);
        self.blkio.add_v2(dir);
        for (size, dir) in dir.huge_pages(".current") {
            let events = dir.keyed(&format!("hugetlb.{size}.events"));
            let usage = dir.number(&format!("hugetlb.{size}.current"));
            self.hugetlb.insert(size, HugePages { usage, max: 0, failcnt: of(&events, "max") });
        }
    }

    fn add_v1(&mut self, controller: &str, dir: &Files) {
        match controller {
            "cpuacct" => self.add_cpuacct(dir),
            "cpu" => {
                let cpu = dir.keyed("cpu.stat");
                self.cpu.throttling = Throttling {
                    periods: of(&cpu, "nr_periods"),
                    throttled_periods: of(&cpu, "nr_throttled"),
                    throttled_time: of(&cpu, "throttled_time"),
                };
            }
            "cpuset" => {
                let number = |file: &str| dir.number(&format!("cpuset.{file}"));
                self.cpuset = CpuSet {
                    cpus: list(&dir.read("cpuset.cpus")),
                    cpu_exclusive: number("cpu_exclusive"),
                    mems: list(&dir.read("cpuset.mems")),
                    mem_hardwall: number("mem_hardwall"),
                    mem_exclusive: number("mem_exclusive"),
                    memory_migrate: number("memory_migrate"),
                    memory_spread_page: number("memory_spread_page"),
                    memory_spread_slab: number("memory_spread_slab"),
                    memory_pressure: number("memory_pressure"),
                    sched_load_balance: number("sched_load_balance"),
                    sched_relax_domain_level: dir
                        .read("cpuset.sched_relax_domain_level")
                        .trim()
                        .parse()
                        .unwrap_or_default(),
                };
            }
            "memory" => self.memory = Memory::of_v1(dir),
            "pids" => self.add_pids(dir),
            "blkio" => self.blkio.add_v1(dir),
            "hugetlb" => {
                for (size, dir) in dir.huge_pages(".usage_in_bytes") {
                    let number = |file: &str| dir.number(&format!("hugetlb.{size}.{file}"));
                    let pages = HugePages {
                        usage: number("usage_in_bytes"),
                        max: number("max_usage_in_bytes"),
                        failcnt: number("failcnt"),
                    };
                    self.hugetlb.insert(size, pages);
                }
            }
            _ => {}
        }
    }

    fn add_cpuacct(&mut self, dir: &Files) {
        /// In a tick, of which the kernel tells its users 100 a second on every architecture that is run on.
        const NANOSECONDS: u64 = 10_000_000;
        let usage = &mut self.cpu.usage;
        usage.total = dir.number("cpuacct.usage");
        let numbers = dir.read("cpuacct.usage_percpu");
        usage.percpu = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        for line in dir.read("cpuacct.usage_all").lines().skip(1) {
            let mut numbers = line.split_whitespace().skip(1).filter_map(|number| number.parse().ok());
            if let (Some(user), Some(kernel)) = (numbers.next(), numbers.next()) {
                usage.percpu_user.push(user);
                usage.percpu_kernel.push(kernel);
            }
        }
        let ticks = dir.keyed("cpuacct.stat");
        usage.user = of(&ticks, "user") * NANOSECONDS;
        usage.kernel = of(&ticks, "system") * NANOSECONDS;
    }

    fn add_pids(&mut self, dir: &Files) {
        if dir.has("pids.current") {
            self.pids = Pids { current: dir.number("pids.current"), limit: dir.number("pids.max") };
        }
    }
}

fn of(map: &BTreeMap<String, u64>, key: &str) -> u64 {
    map.get(key).copied().unwrap_or_default()
}

/// The numbers of a list such as `0-3,6`.
fn list(text: &str) -> Vec<u16> {
    let parts = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    parts.flatten().collect()
}

/// A cgroup's directory. What cannot be read has counted nothing: files come and go with kernels and controllers.
struct Files(PathBuf);

impl Files {
    fn path(&self) -> &Path {
        &self.0
    }

    fn has(&self, file: &str) -> bool {
        self.0.join(file).exists()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    /// A file of one number; `max` is 0.
    fn number(&self, file: &str) -> u64 {
        self.read(file).trim().parse().unwrap_or_default()
    }

    /// A file of one number, of which `max` is the greatest.
    fn limit(&self, file: &str) -> u64 {
        match self.read(file).trim() {
            "max" => u64::MAX,
            number => number.parse().unwrap_or_default(),
        }
    }

    /// A file with a name and a number on each line.
    fn keyed(&self, file: &str) -> BTreeMap<String, u64> {
        let text = self.read(file);
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect()
    }

    fn pressure(&self, file: &str) -> Option<Pressure> {
        let text = self.read(file);
        if text.is_empty() {
            return None;
        }
        let line = |kind: &str| {
            let words = text.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or_default();
            let word = |key: &str| words.split(' ').find_map(|word| word.strip_prefix(key)).unwrap_or_default();
            let average = |key: &str| word(key).parse().unwrap_or_default();
            PressureLine {
                avg10: average("avg10="),
                avg60: average("avg60="),
                avg300: average("avg300="),
                total: word("total=").parse().unwrap_or_default(),
            }
        };
        Some(Pressure { some: line("some "), full: line("full ") })
    }

    /// The sizes of huge pages of which there is a file that ends so.
    fn huge_pages(&self, end: &str) -> Vec<(String, &Self)> {
        let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let sizes = names.filter_map(|name| Some(name.strip_prefix("hugetlb.")?.strip_suffix(end)?.to_owned()));
        sizes.filter(|size| !size.contains('.')).map(|size| (size, self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let path = dir.path().to_owned();
        (dir, Files(path))
    }

    #[test]
    fn nothing_counted_is_what_runc_prints_then() {
        let text = serde_json::to_string(&Stats::default()).unwrap();
        let cpuset = r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0}"#;
        let entry = r#"{"limit":0,"failcnt":0}"#;
        assert_eq!(
            text,
            format!(
                r#"{{"cpu":{{"usage":{{"kernel":0,"user":0}},"throttling":{{}}}},{cpuset},"memory":{{"usage":{entry},"swap":{entry},"kernel":{entry},"kernelTCP":{entry}}},"pids":{{}},"blkio":{{}},"hugetlb":{{}},"intel_rdt":{{}},"network_interfaces":null}}"#
            )
        );
    }

    #[test]
    fn version_2_is_read_in_runcs_units() {
        let (_dir, files) = files(&[
            ("cpu.max", "max 100000\n"),
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 9\n"),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
            ),
            ("memory.current", "100\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "50\n"),
            ("memory.stat", "anon 60\nfile 40\n"),
            ("memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n"),
            ("pids.current", "4\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.rsvd.current", "1\n"),
            ("hugetlb.2MB.events", "max 6\n"),
        ]);
        let mut stats = Stats::default();
        stats.add_v2(&files);
        assert_eq!(
            (stats.cpu.usage.total, stats.cpu.usage.kernel, stats.cpu.throttling.throttled_time),
            (5000, 2000, 9000)
        );
        let pressure = stats.cpu.psi.unwrap();
        assert_eq!((pressure.some.avg10, pressure.some.total, pressure.full.total), (1.5, 77, 1));
        assert_eq!((stats.memory.usage.limit, stats.memory.usage.usage, stats.memory.cache), (u64::MAX, 100, 40));
        // As version 1 has it, memory and swap together.
        assert_eq!((stats.memory.swap.usage, stats.memory.swap.limit), (110, u64::MAX));
        assert_eq!(stats.memory.event_count.unwrap().oom_kill, 1);
        assert_eq!((stats.pids.current, stats.pids.limit), (4, 0));
        assert_eq!(stats.hugetlb["2MB"], HugePages { usage: 2_097_152, max: 0, failcnt: 6 });
        assert_eq!(stats.hugetlb.len(), 1);
        let io = serde_json::to_value(&stats.blkio).unwrap();
        assert_eq!(
            io["ioServiceBytesRecursive"],
            serde_json::json!([{"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write", "value": 2}])
        );
        assert_eq!(io["ioServicedRecursive"][1]["value"], 4);
    }

    #[test]
    fn version_1_is_read_controller_by_controller() {
        let (_dir, files) = files(&[
            ("cpuacct.usage", "5\n"),
            ("cpuacct.usage_percpu", "2 3 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 1 1\n1 2 1\n"),
            ("cpuacct.stat", "user 1\nsystem 2\n"),
            ("cpuset.cpus", "0-1,3\n"),
            ("cpuset.sched_relax_domain_level", "-1\n"),
            ("memory.usage_in_bytes", "8\n"),
            ("memory.limit_in_bytes", "9\n"),
            ("memory.memsw.usage_in_bytes", "10\n"),
            ("memory.stat", "cache 6\nrss 2\n"),
            ("blkio.throttle.io_service_bytes_recursive", "8:16 Read 1\n8:16 Total 1\nTotal 1\n"),
        ]);
        let mut stats = Stats::default();
        for controller in ["cpuacct", "cpuset", "memory", "blkio"] {
            stats.add_v1(controller, &files);
        }
        assert_eq!((stats.cpu.usage.total, stats.cpu.usage.user), (5, 10_000_000));
        assert_eq!((stats.cpu.usage.percpu, stats.cpu.usage.percpu_user), (vec![2, 3], vec![1, 2]));
        assert_eq!((stats.cpuset.cpus, stats.cpuset.sched_relax_domain_level), (vec![0, 1, 3], -1));
        assert_eq!((stats.memory.cache, stats.memory.usage.limit, stats.memory.swap.usage), (6, 9, 10));
        let ops: Vec<_> = stats.blkio.io_service_bytes_recursive.iter().map(|entry| entry.op.clone()).collect();
        assert_eq!(ops, ["Read", "Total"]);
    }
}
