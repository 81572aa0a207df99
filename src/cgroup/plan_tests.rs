//! What configurations come to, on machines of each layout.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::{CgroupPlan, needs_own_paths, plan};
use crate::error::{Faults, Kind};
use crate::host::cgroups::{Hierarchies, Hierarchy, Layout, Version};

fn hierarchy(version: Version, at: &str, controllers: &[&str], own: &str) -> Hierarchy {
    let controllers = controllers.iter().map(ToString::to_string).collect();
    Hierarchy { version, mount_point: at.into(), controllers, own_path: Some(own.into()) }
}

fn unified() -> Hierarchies {
    let controllers = ["cpuset", "cpu", "io", "memory", "pids"];
    let list = vec![hierarchy(Version::V2, "/sys/fs/cgroup", &controllers, "/user.slice/me.scope")];
    Hierarchies::new(Layout::Unified, list)
}

fn hybrid() -> Hierarchies {
    let v1 = |controllers: &[&str]| {
        hierarchy(Version::V1, &format!("/sys/fs/cgroup/{}", controllers.join(",")), controllers, "/own")
    };
    let mut list: Vec<_> = ["memory", "pids", "cpuset", "devices", "freezer"].iter().map(|name| v1(&[name])).collect();
    list.push(v1(&["cpu", "cpuacct"]));
    list.push(hierarchy(Version::V2, "/sys/fs/cgroup/unified", &["hugetlb"], "/"));
    Hierarchies::new(Layout::Hybrid, list)
}

fn spec(linux: &str) -> Spec {
    serde_json::from_str(&format!(r#"{{"ociVersion": "1.3.0", "linux": {{{linux}}}}}"#)).unwrap()
}

fn planned(linux: &str, hierarchies: &Hierarchies) -> CgroupPlan {
    let mut faults = Faults::default();
    let plan = plan(&spec(linux), "box", hierarchies, &mut faults);
    faults.into_result().unwrap();
    plan
}

fn refused(linux: &str, hierarchies: &Hierarchies) -> (Kind, String) {
    let mut faults = Faults::default();
    plan(&spec(linux), "box", hierarchies, &mut faults);
    let error = faults.into_result().unwrap_err();
    (error.kind(), error.to_string())
}

fn resources(resources: &str) -> String {
    format!(r#""resources": {{{resources}}}"#)
}

/// All writes but those of devices, as `file=value`.
fn writes(plan: &CgroupPlan) -> Vec<String> {
    let all = plan.groups.iter().flat_map(|group| &group.writes).filter(|write| !write.file.starts_with("devices"));
    all.map(|write| format!("{}={}{}", write.file, write.value, if write.missing_ok { "?" } else { "" })).collect()
}

fn paths(plan: &CgroupPlan) -> Vec<PathBuf> {
    plan.cgroups().0.iter().map(super::ContainerCgroup::dir).collect()
}

#[test]
fn nothing_asked_for_is_a_directory_in_every_hierarchy() {
    let plan = planned("", &hybrid());
    assert_eq!(plan.groups.len(), 7);
    assert_eq!(
        paths(&plan)[..2],
        ["/sys/fs/cgroup/unified/procrt/box", "/sys/fs/cgroup/memory/procrt/box"].map(PathBuf::from)
    );
    assert!(writes(&plan).is_empty());
    let plan = planned("", &unified());
    assert_eq!(paths(&plan), [Path::new("/sys/fs/cgroup/procrt/box")]);
    assert!(plan.groups[0].controllers.is_empty());
}

#[test]
fn the_path_is_absolute_or_below_the_own_cgroup() {
    let absolute = r#""cgroupsPath": "/docker/./a//b""#;
    assert_eq!(paths(&planned(absolute, &unified())), [Path::new("/sys/fs/cgroup/docker/a/b")]);
    let relative = r#""cgroupsPath": "a/b""#;
    assert_eq!(paths(&planned(relative, &unified())), [Path::new("/sys/fs/cgroup/user.slice/a/b")]);
    assert_eq!(paths(&planned(relative, &hybrid()))[1], Path::new("/sys/fs/cgroup/memory/own/a/b"));
    assert!(needs_own_paths(&spec(relative)) && !needs_own_paths(&spec(absolute)) && !needs_own_paths(&spec("")));
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let message = |path: &str| refused(&format!(r#""cgroupsPath": "{path}""#), &unified()).1;
    assert_eq!(message("/a/../b"), r#"linux.cgroupsPath: "/a/../b" has ".." in it"#);
    assert!(message("/").ends_with("is the root control group, which is no container's"));
    assert!(message("user.slice:procrt:a").contains("needs --systemd-cgroup"));
}

#[test]
fn limits_become_the_values_of_either_version() {
    let asked = resources(
        r#""memory": {"limit": 1000, "swap": 3000, "reservation": 500}, "pids": {"limit": -1},
           "cpu": {"shares": 1024, "quota": 50000, "burst": 2000, "idle": 1, "cpus": "0-1", "mems": "0"}"#,
    );
    assert_eq!(
        writes(&planned(&asked, &unified())),
        [
            "memory.max=1000",
            "memory.swap.max=2000",
            "memory.low=500",
            "cpu.max=50000 100000",
            "cpu.max.burst=2000",
            "cpu.idle=1",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "pids.max=max",
        ]
    );
    assert_eq!(planned(&asked, &unified()).groups[0].controllers, ["memory", "cpu", "cpuset", "pids"]);
    assert_eq!(
        writes(&planned(&asked, &hybrid())),
        [
            "memory.limit_in_bytes=1000",
            "memory.memsw.limit_in_bytes=3000",
            "memory.soft_limit_in_bytes=500",
            "pids.max=max",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "cpu.cfs_quota_us=50000",
            "cpu.cfs_burst_us=2000",
            "cpu.idle=1",
        ]
    );
}

#[test]
fn swap_is_what_the_sum_leaves() {
    let on_v2 =
        |memory: &str| writes(&planned(&resources(&format!(r#""memory": {{{memory}}}"#)), &unified())).join(" ");
    assert_eq!(on_v2(r#""limit": 10, "swap": 10"#), "memory.max=10 memory.swap.max=0?");
    assert_eq!(on_v2(r#""limit": 10, "swap": -1"#), "memory.max=10 memory.swap.max=max?");
    assert_eq!(on_v2(r#""limit": -1"#), "memory.max=max memory.swap.max=max?");
    assert_eq!(on_v2(r#""limit": 10"#), "memory.max=10");
}

#[test]
fn zeroes_and_empty_lists_ask_for_nothing() {
    let asked = resources(
        r#""memory": {"limit": 0, "swap": 0, "disableOOMKiller": false, "useHierarchy": false, "kernel": 0},
           "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "", "idle": 0, "burst": 0},
           "blockIO": {"weight": 0, "weightDevice": [], "throttleReadBpsDevice": []},
           "hugepageLimits": [], "network": {"classID": 0, "priorities": []}, "rdma": {}, "unified": {}"#,
    );
    assert!(writes(&planned(&asked, &hybrid())).is_empty());
    assert!(writes(&planned(&asked, &unified())).is_empty());
}

#[test]
fn a_limit_of_no_process_lets_the_first_one_make_no_other() {
    let asked = resources(r#""pids": {"limit": 0}"#);
    for hierarchies in [hybrid(), unified()] {
        let planned = planned(&asked, &hierarchies);
        assert!(writes(&planned).iter().any(|write| write.ends_with("pids.max=1")), "{:?}", writes(&planned));
    }
}

#[test]
fn wrong_values_are_named_together() {
    let asked = resources(
        r#""memory": {"limit": -5, "reservation": -2}, "pids": {"limit": -3},
           "cpu": {"quota": 500, "period": 5, "burst": 501, "idle": 2, "cpus": "x"}"#,
    );
    let (kind, message) = refused(&asked, &unified());
    assert_eq!(kind, Kind::Config);
    assert_eq!(
        message,
        "linux.resources.memory.limit: -5 is less than -1; linux.resources.memory.reservation: -2 is less than -1; \
         linux.resources.cpu.period: 5 is not from 1000 to 1000000 microseconds; \
         linux.resources.cpu.quota: 500 is less than 1000 microseconds; linux.resources.cpu.burst: 501 is more than cpu.quota; \
         linux.resources.cpu.idle: 2 is neither 0 nor 1; linux.resources.cpu.cpus: \"x\" is not a list such as \"0-3,6\"; \
         linux.resources.pids.limit: -3 is less than -1"
    );
    let swap = |memory: &str| refused(&resources(&format!(r#""memory": {{{memory}}}"#)), &hybrid()).1;
    assert!(swap(r#""limit": 10, "swap": 5"#).contains("memory.swap: 5 is memory and swap together, and less than"));
    assert!(swap(r#""swap": 5"#).contains("needs a memory.limit"));
    assert!(swap(r#""swappiness": 101"#).ends_with("memory.swappiness: 101 is more than 100"));
    let shares = refused(&resources(r#""cpu": {"shares": 1}"#), &hybrid()).1;
    assert_eq!(shares, "linux.resources.cpu.shares: 1 is not from 2 to 262144");
}

#[test]
fn what_cannot_be_had_is_unsupported() {
    let unsupported = |asked: &str, hierarchies: &Hierarchies| {
        let (kind, message) = refused(&resources(asked), hierarchies);
        assert_eq!(kind, Kind::Unsupported, "{message}");
        message
    };
    assert_eq!(
        unsupported(
            r#""blockIO": {"leafWeight": 10}, "unified": {"memory.high": "1", "hugetlb.2MB.max": "0"}"#,
            &hybrid()
        ),
        "linux.resources.blockIO.leafWeight: no control group hierarchy of this machine has the \"io\" controller; \
         linux.resources.unified[\"memory.high\"]: no version 2 hierarchy of this machine has the \"memory\" controller"
    );
    unsupported(r#""blockIO": {"leafWeight": 10}"#, &unified());
    let mut bare = unified();
    bare.list[0].controllers.clear();
    assert_eq!(
        unsupported(r#""pids": {"limit": 5}"#, &bare),
        "linux.resources.pids.limit: no control group hierarchy of this machine has the \"pids\" controller"
    );
    unsupported(r#""memory": {"swappiness": 10, "disableOOMKiller": true}"#, &unified());
    unsupported(r#""cpu": {"realtimeRuntime": 10}"#, &unified());
    unsupported("", &Hierarchies::new(Layout::Legacy, Vec::new()));
}

#[test]
fn huge_pages_are_limited_when_reserved_and_when_touched() {
    let asked =
        resources(r#""hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}, {"pageSize": "1GB", "limit": 0}]"#);
    let plan = planned(&asked, &hybrid());
    assert_eq!(
        writes(&plan),
        ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304", "hugetlb.1GB.max=0", "hugetlb.1GB.rsvd.max=0"]
    );
    assert_eq!(plan.groups[0].controllers, ["hugetlb"]);
    let mut old = hybrid();
    old.list.retain(|hierarchy| hierarchy.version == Version::V1);
    old.list.insert(0, hierarchy(Version::V1, "/sys/fs/cgroup/hugetlb", &["hugetlb"], "/"));
    assert_eq!(
        writes(&planned(&asked, &old))[..2],
        ["hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.limit_in_bytes=4194304"]
    );
    assert_eq!(
        refused(&resources(r#""hugepageLimits": [{"pageSize": "3MB", "limit": 1}]"#), &hybrid()).1,
        r#"linux.resources.hugepageLimits[0].pageSize: "3MB" is not a page size such as "2MB""#
    );
    assert_eq!(refused(&asked, &unified()).0, Kind::Unsupported);
}

#[test]
fn disks_are_weighed_and_throttled_on_either_version() {
    let asked = resources(
        r#""blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}"#,
    );
    let v2 = planned(&asked, &unified());
    assert_eq!(
        writes(&v2),
        ["io.bfq.weight=500", "io.bfq.weight=8:0 10", "io.max=8:0 rbps=1024", "io.max=8:16 wiops=max"]
    );
    assert_eq!(v2.groups[0].writes[1].otherwise, Some(("io.weight", "8:0 1".to_owned())));
    assert_eq!(v2.groups[0].controllers, ["io"]);
    let mut host = hybrid();
    host.list.push(hierarchy(Version::V1, "/sys/fs/cgroup/blkio", &["blkio"], "/"));
    assert_eq!(
        writes(&planned(&asked, &host)),
        [
            "blkio.bfq.weight=500",
            "blkio.bfq.weight_device=8:0 10",
            "blkio.throttle.read_bps_device=8:0 1024",
            "blkio.throttle.write_iops_device=8:16 0"
        ]
    );
    let wrong = resources(
        r#""blockIO": {"weight": 5, "weightDevice": [{"major": 8, "minor": 0}],
            "throttleReadBpsDevice": [{"major": -8, "minor": 0, "rate": 1}]}"#,
    );
    assert_eq!(
        refused(&wrong, &unified()).1,
        "linux.resources.blockIO.weight: 5 is not from 10 to 1000; \
         linux.resources.blockIO.weightDevice[0]: has neither weight nor leafWeight; \
         linux.resources.blockIO.throttleReadBpsDevice[0]: -8:0 is not a device number"
    );
}

#[test]
fn files_of_version_2_are_written_by_their_names() {
    let asked = resources(
        r#""memory": {"limit": 5}, "unified": {"memory.high": "4", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cgroup.max.depth": "3"}"#,
    );
    let plan = planned(&asked, &unified());
    assert_eq!(
        writes(&plan),
        ["memory.max=5", "cgroup.max.depth=3", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=4"]
    );
    assert_eq!(plan.groups[0].controllers, ["memory", "io"]);
    for name in ["../memory.max", "memory", "", ".x", "a/b.c", "x\\u0000.y"] {
        let (kind, message) = refused(&resources(&format!(r#""unified": {{"{name}": "1"}}"#)), &unified());
        assert_eq!(kind, Kind::Config);
        assert!(message.contains("is not the name of a control group's file"), "{message}");
    }
    for name in ["cgroup.procs", "cgroup.freeze", "cgroup.subtree_control"] {
        let message = refused(&resources(&format!(r#""unified": {{"{name}": "1"}}"#)), &unified()).1;
        assert!(message.contains("is no resource"), "{message}");
    }
}

#[test]
fn rdma_devices_are_limited() {
    let mut host = unified();
    host.list[0].controllers.push("rdma".into());
    let asked = resources(r#""rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 0}, "a": {"hcaHandles": 1}, "b": {}}"#);
    assert_eq!(
        writes(&planned(&asked, &host)),
        ["rdma.max=a hca_handle=1", "rdma.max=mlx5_1 hca_handle=3 hca_object=0"]
    );
    assert_eq!(refused(&asked, &unified()).0, Kind::Unsupported);
}

#[test]
fn packets_are_marked_on_version_1() {
    let asked = resources(r#""network": {"classID": 1048577, "priorities": [{"name": "lo", "priority": 5}]}"#);
    let mut host = hybrid();
    host.list.push(hierarchy(Version::V1, "/sys/fs/cgroup/net_cls,net_prio", &["net_cls", "net_prio"], "/"));
    assert_eq!(writes(&planned(&asked, &host)), ["net_cls.classid=1048577", "net_prio.ifpriomap=lo 5"]);
    assert_eq!(refused(&asked, &unified()).0, Kind::Unsupported);
    let wrong = resources(r#""network": {"priorities": [{"name": "a b", "priority": 5}]}"#);
    assert_eq!(
        refused(&wrong, &host).1,
        r#"linux.resources.network.priorities[0].name: "a b" is not the name of an interface"#
    );
}

#[test]
fn devices_are_files_on_version_1_and_a_program_on_version_2() {
    let asked = resources(
        r#""devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]"#,
    );
    let plan = planned(&asked, &hybrid());
    assert!(plan.groups.iter().all(|group| group.device_program.is_none()));
    let devices = plan.groups.iter().find(|group| group.cgroup.hierarchy.has("devices")).unwrap();
    let values: Vec<_> = devices.writes.iter().map(|write| format!("{} {}", write.file, write.value)).collect();
    assert_eq!(values[..3], ["devices.deny a", "devices.allow c 10:229 rw", "devices.allow c *:* m"]);
    let plan = planned(&asked, &unified());
    assert!(plan.groups[0].device_program.is_some() && plan.groups[0].writes.is_empty());
    let everything = planned(&resources(r#""devices": [{"allow": true, "type": "a", "access": "rwm"}]"#), &unified());
    assert!(everything.groups[0].device_program.is_none());
    let hole = resources(
        r#""devices": [{"allow": true, "type": "c", "access": "r"}, {"allow": false, "type": "c", "major": 1, "access": "r"}]"#,
    );
    assert!(refused(&hole, &hybrid()).1.contains("cannot take \"c 1:* r\" out of \"c *:* r\""));
    planned(&hole, &unified());
}

#[test]
fn a_plan_can_be_said_in_words() {
    let plan = planned(&resources(r#""memory": {"limit": 4096, "swap": -1, "checkBeforeUpdate": true}"#), &unified());
    let words = plan.describe();
    assert_eq!(
        words[..5],
        [
            "make the control group /sys/fs/cgroup/procrt/box (version 2)",
            "have memory handed down to it",
            "see that memory.current is not above 4096",
            "write \"4096\" to memory.max",
            "write \"max\" to memory.swap.max, if it is there",
        ]
    );
    assert!(
        words[5].starts_with("attach a device program of ") && words[5].contains(": deny all, allow c *:* m, "),
        "{}",
        words[5]
    );
}
