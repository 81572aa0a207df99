//! Every limit of `linux.resources` as a container reads it in its own control groups, on version 1 and on version 2.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Bundle, skipped, unified};

/// A field below `linux.resources`, its value, and what the container reads: in a file of version 2, and in one of a
/// version 1 hierarchy. No file means that this version has none, and that the field is refused.
struct Row<'a> {
    field: &'a str,
    value: Value,
    v2: Option<(&'a str, &'a str)>,
    v1: Option<(&'a str, &'a str)>,
}

fn row<'a>(field: &'a str, value: Value, v2: Option<(&'a str, &'a str)>, v1: Option<(&'a str, &'a str)>) -> Row<'a> {
    Row { field, value, v2, v1 }
}

/// A bundle that sees its control groups.
fn bundle(script: &str) -> Bundle {
    Bundle::new(script).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"])
}

/// Sets all rows' fields together and reads their files inside. `controller` is that of the rows, in whose version 1
/// hierarchy the files are if it has one.
#[track_caller]
fn seen_inside(controller: &str, rows: &[Row]) {
    let version_1 = Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists();
    let prefix = match (version_1, unified()) {
        (true, _) => format!("/sys/fs/cgroup/{controller}"),
        (false, true) => "/sys/fs/cgroup".to_owned(),
        (false, false) => "/sys/fs/cgroup/unified".to_owned(),
    };
    let mut whole = bundle("");
    let mut script = Vec::new();
    let mut expected = Vec::new();
    for row in rows {
        let pointer = format!("/linux/resources/{}", row.field.replace('.', "/"));
        match if version_1 { row.v1 } else { row.v2 } {
            Some((file, text)) => {
                whole = whole.set(&pointer, row.value.clone());
                script.push(format!("echo \"{} $(cat {prefix}/{file})\"", row.field));
                expected.push(format!("{} {text}", row.field));
            }
            None => {
                let error = bundle("true").set(&pointer, row.value.clone()).create().refused();
                assert!(error.contains(&format!("linux.resources.{}", row.field)), "{}: {error}", row.field);
            }
        }
    }
    whole.config["process"]["args"] = json!(["/bin/sh", "-c", script.join("\n")]);
    let outcome = whole.run();
    let lacking = format!("has the {controller:?} controller");
    if outcome.code() == 1 && (outcome.stderr.contains(&lacking) || outcome.stderr.contains("the kernel has no")) {
        return skipped(outcome.stderr.trim_end());
    }
    assert_eq!(outcome.ok().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn memory() {
    let file = |name| Some((name, "67108864"));
    seen_inside(
        "memory",
        &[
            row("memory.limit", json!(64 << 20), file("memory.max"), file("memory.limit_in_bytes")),
            row(
                "memory.reservation",
                json!(32 << 20),
                Some(("memory.low", "33554432")),
                Some(("memory.soft_limit_in_bytes", "33554432")),
            ),
            row(
                "memory.swap",
                json!(96 << 20),
                Some(("memory.swap.max", "33554432")),
                Some(("memory.memsw.limit_in_bytes", "100663296")),
            ),
            row("memory.swappiness", json!(7), None, Some(("memory.swappiness", "7"))),
            row(
                "memory.disableOOMKiller",
                json!(true),
                None,
                Some(("memory.oom_control | head -n 1", "oom_kill_disable 1")),
            ),
        ],
    );
}

#[test]
fn time_on_the_processors() {
    seen_inside(
        "cpu",
        &[
            row("cpu.quota", json!(30_000), Some(("cpu.max", "30000 60000")), Some(("cpu.cfs_quota_us", "30000"))),
            row("cpu.period", json!(60_000), Some(("cpu.max", "30000 60000")), Some(("cpu.cfs_period_us", "60000"))),
            row("cpu.burst", json!(20_000), Some(("cpu.max.burst", "20000")), Some(("cpu.cfs_burst_us", "20000"))),
        ],
    );
    // An idle group has no shares, so it is another.
    seen_inside("cpu", &[row("cpu.shares", json!(2048), Some(("cpu.weight", "174")), Some(("cpu.shares", "2048")))]);
    seen_inside("cpu", &[row("cpu.idle", json!(1), Some(("cpu.idle", "1")), Some(("cpu.idle", "1")))]);
}

#[test]
fn real_time_on_the_processors() {
    if !Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        skipped("this kernel has no real time for control groups");
        let error = bundle("true").set("/linux/resources/cpu", json!({"realtimeRuntime": 1000})).create().refused();
        assert!(error.contains("linux.resources.cpu") && error.contains("realtimeRuntime"), "{error}");
        return;
    }
    // A group has no more than the one above it, which has none unless somebody gave it some.
    let real_time = json!({"realtimeRuntime": 0, "realtimePeriod": 500_000});
    let script = "cat /sys/fs/cgroup/cpu/cpu.rt_period_us";
    assert_eq!(bundle(script).set("/linux/resources/cpu", real_time).run().ok(), "500000");
    let outcome = bundle("true").set("/linux/resources/cpu", json!({"realtimeRuntime": 1000})).run();
    if outcome.code() != 0 {
        assert!(outcome.refused().contains("cpu.rt_runtime_us"));
    }
}

#[test]
fn processors_and_memory_nodes() {
    let zero = |name| Some((name, "0"));
    seen_inside(
        "cpuset",
        &[
            row("cpu.cpus", json!("0"), zero("cpuset.cpus"), zero("cpuset.cpus")),
            row("cpu.mems", json!("0"), zero("cpuset.mems"), zero("cpuset.mems")),
        ],
    );
}

#[test]
fn numbers_of_processes() {
    let file = Some(("pids.max", "11"));
    seen_inside("pids", &[row("pids.limit", json!(11), file, file)]);
}

#[test]
fn huge_pages() {
    let Some(size) = fs::read_dir("/sys/kernel/mm/hugepages").ok().and_then(|mut sizes| sizes.next()) else {
        return skipped("this kernel has no huge pages");
    };
    let kilobytes: u64 =
        size.unwrap().file_name().to_str().unwrap()["hugepages-".len()..].trim_end_matches("kB").parse().unwrap();
    let name = match kilobytes {
        1_048_576.. => format!("{}GB", kilobytes >> 20),
        1024.. => format!("{}MB", kilobytes >> 10),
        _ => format!("{kilobytes}KB"),
    };
    let bytes = (kilobytes << 10) * 3;
    let (v2, v1) = (format!("hugetlb.{name}.max"), format!("hugetlb.{name}.limit_in_bytes"));
    let text = bytes.to_string();
    let limits = json!([{"pageSize": name, "limit": bytes}]);
    seen_inside("hugetlb", &[row("hugepageLimits", limits, Some((&v2, &text)), Some((&v1, &text)))]);
    // The same by its file's name, where there is version 2.
    if Path::new("/sys/fs/cgroup/hugetlb").exists() {
        return;
    }
    seen_inside("hugetlb", &[row("unified", json!({v2.clone(): text}), Some((&v2, &text)), None)]);
}

/// A disk that the kernel has, as `MAJOR:MINOR`.
fn disk() -> Option<String> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    disks.flat_map(|disk| fs::read_to_string(disk.path().join("dev"))).map(|text| text.trim().to_owned()).next()
}

#[test]
fn disks() {
    let Some(disk) = disk() else { return skipped("this machine has no disk") };
    let (major, minor) = disk.split_once(':').unwrap();
    let (major, minor): (i64, i64) = (major.parse().unwrap(), minor.parse().unwrap());
    let throttle = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let line = |rate: u64| format!("{disk} {rate}");
    // Version 2 has all four of a disk in a line.
    let whole = format!("{disk} rbps=1048576 wbps=2097152 riops=100 wiops=200");
    let v2 = Some(("io.max", whole.as_str()));
    let (rbps, wbps, riops, wiops) = (line(1 << 20), line(2 << 20), line(100), line(200));
    seen_inside(
        if unified() { "io" } else { "blkio" },
        &[
            row(
                "blockIO.throttleReadBpsDevice",
                throttle(1 << 20),
                v2,
                Some(("blkio.throttle.read_bps_device", &rbps)),
            ),
            row(
                "blockIO.throttleWriteBpsDevice",
                throttle(2 << 20),
                v2,
                Some(("blkio.throttle.write_bps_device", &wbps)),
            ),
            row("blockIO.throttleReadIOPSDevice", throttle(100), v2, Some(("blkio.throttle.read_iops_device", &riops))),
            row(
                "blockIO.throttleWriteIOPSDevice",
                throttle(200),
                v2,
                Some(("blkio.throttle.write_iops_device", &wiops)),
            ),
        ],
    );
}

/// What only some kernels have: where this one has not, it is refused by its name.
#[test]
fn what_few_kernels_have() {
    for (controller, field, value, file, text) in [
        ("net_cls", "network.classID", json!({"classID": 0x10_0001}), "net_cls.classid", "1048577"),
        (
            "net_prio",
            "network.priorities",
            json!({"priorities": [{"name": "lo", "priority": 5}]}),
            "net_prio.ifpriomap | grep -w lo",
            "lo 5",
        ),
    ] {
        let there = Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists();
        let script = format!("cat /sys/fs/cgroup/{controller}/{file}");
        let bundle = bundle(&script).set("/linux/resources/network", value);
        if there {
            assert_eq!(bundle.run().ok(), text);
        } else {
            skipped(&format!("this machine has no {controller} controller"));
            let error = bundle.create().refused();
            assert!(error.contains(&format!("linux.resources.{field}")), "{field}: {error}");
        }
    }
    let rdma = json!({"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}});
    let outcome = bundle("true").set("/linux/resources/rdma", rdma).run();
    if outcome.code() != 0 {
        skipped("this machine has no RDMA devices");
        assert!(outcome.refused().contains("rdma"));
    }
}
