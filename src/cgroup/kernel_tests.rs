//! The slice on the kernel that runs the tests, whatever its layout: limits are seen to hold, nothing is left behind.
//! All need root.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxResources, Spec};

use super::{Cgroup, CgroupPlan, plan, plan_update};
use crate::error::{Faults, Kind, Result};
use crate::host::cgroups::{Hierarchies, Version};

/// Where a test's cgroup is, apart from that of another run of the tests at the same time.
fn path_of(name: &str) -> String {
    format!("/procrt-test-{name}-{}/c", std::process::id())
}

fn plan_of(name: &str, resources: &str) -> CgroupPlan {
    let path = path_of(name);
    let json = format!(r#"{{"ociVersion": "1.3.0", "linux": {{"cgroupsPath": "{path}", "resources": {resources}}}}}"#);
    let spec: Spec = serde_json::from_str(&json).unwrap();
    let mut faults = Faults::default();
    let plan = plan(&spec, "c", &Hierarchies::find().unwrap(), &mut faults);
    faults.into_result().unwrap();
    plan
}

/// A test's cgroup, which goes with the test whatever comes.
struct Guard {
    cgroup: Cgroup,
}

impl Guard {
    fn new(name: &str, resources: &str) -> Result<Self> {
        // Others may come to the same place, as when the maker has ended.
        Cgroup::create(&plan_of(name, resources)).map(|cgroup| Self { cgroup: Cgroup::open(cgroup.cgroups()) })
    }

    fn dirs(&self) -> Vec<PathBuf> {
        self.cgroup.cgroups().0.iter().map(super::ContainerCgroup::dir).collect()
    }

    /// A shell in the cgroup. It runs `script` when it is joined and no sooner.
    fn shell(&self, script: &str) -> Child {
        let child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.cgroup.join_all(child.id() as i32).unwrap();
        child
    }

    fn run(&self, script: &str) -> Output {
        let mut child = self.shell(script);
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.cgroup.kill(libc::SIGKILL);
        let _ = self.cgroup.remove();
        for dir in self.dirs() {
            let _ = std::fs::remove_dir(dir.parent().unwrap());
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn as_root_a_fork_past_the_pids_limit_is_refused() {
    let guard = Guard::new("pids", r#"{"pids": {"limit": 3}}"#).unwrap();
    let output = guard.run("for i in 1 2 3 4 5 6; do sleep 1 & done; wait");
    assert!(text(&output.stderr).to_lowercase().contains("fork"), "{output:?}");
}

#[test]
fn as_root_an_allocation_past_the_memory_limit_is_killed() {
    let guard = Guard::new("memory", r#"{"memory": {"limit": 16777216, "swap": 16777216}}"#).unwrap();
    let output = guard.run("exec tail /dev/zero");
    assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{output:?}");
    assert!(guard.run("exec head -c 1000 /dev/zero").status.success());
}

#[test]
fn as_root_cpu_time_past_the_quota_is_throttled() {
    let guard = Guard::new("cpu", r#"{"cpu": {"shares": 512, "quota": 10000, "period": 100000}}"#).unwrap();
    let begin = Instant::now();
    let output = guard.run("i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; cat /proc/$$/stat");
    assert!(output.status.success(), "{output:?}");
    let cpu = guard.cgroup.cgroups().0.iter().find(|c| c.hierarchy.has("cpu")).unwrap().dir();
    let stat = std::fs::read_to_string(cpu.join("cpu.stat")).unwrap();
    let throttled = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
    assert_ne!(throttled, "0", "{stat} after {:?}", begin.elapsed());
}

#[test]
fn as_root_huge_pages_are_limited_in_both_ways() {
    let Some(hierarchy) = Hierarchies::find().unwrap().list.into_iter().find(|h| h.has("hugetlb")) else {
        eprintln!("not run: no hierarchy of this machine has the \"hugetlb\" controller");
        return;
    };
    if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        eprintln!("not run: this kernel has no huge pages of 2 MB");
        return;
    }
    let guard = Guard::new("hugetlb", r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#).unwrap();
    let dir = guard.cgroup.cgroups().0.iter().find(|c| c.hierarchy.has("hugetlb")).unwrap().dir();
    let last = if hierarchy.version == Version::V2 { "max" } else { "limit_in_bytes" };
    for file in [format!("hugetlb.2MB.{last}"), format!("hugetlb.2MB.rsvd.{last}")] {
        assert_eq!(std::fs::read_to_string(dir.join(&file)).unwrap().trim(), "4194304", "{file}");
    }
    let missing = Guard::new("hugetlb-missing", r#"{"hugepageLimits": [{"pageSize": "4MB", "limit": 0}]}"#);
    let error = missing.err().expect("a page size that the kernel has not is refused").to_string();
    assert!(error.contains("hugetlb.4MB."), "{error}");
}

#[test]
fn as_root_a_device_that_no_rule_allows_cannot_be_opened_or_made() {
    let guard = Guard::new(
        "devices",
        r#"{"devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}]}"#,
    )
    .unwrap();
    let output = guard.run("echo 1 > /dev/null && head -c 1 /dev/zero > /dev/null && exec 3</dev/kmsg");
    assert!(!output.status.success(), "{output:?}");
    assert!(text(&output.stderr).contains("/dev/kmsg: Operation not permitted"), "{output:?}");
    let all = Guard::new("all-devices", r#"{"devices": [{"allow": true, "type": "a"}]}"#).unwrap();
    assert!(all.run("exec 3</dev/kmsg").status.success());
    let node = tempfile::tempdir().unwrap().keep().join("node");
    let no_nodes = Guard::new(
        "no-nodes",
        r#"{"devices": [{"allow": true, "type": "a"}, {"allow": false, "type": "b", "access": "m"}]}"#,
    )
    .unwrap();
    let output = no_nodes.run(&format!("mknod {} b 7 200", node.display()));
    assert!(text(&output.stderr).contains("Operation not permitted"), "{output:?}");
    std::fs::remove_dir_all(node.parent().unwrap()).unwrap();
}

#[test]
fn as_root_every_hierarchy_is_joined_and_killed_and_removed() {
    let guard = Guard::new("whole", r#"{"memory": {}, "pids": {"limit": -1}, "cpu": {"shares": 0}}"#).unwrap();
    assert!(guard.cgroup.is_empty().unwrap());
    let mut child = guard.shell("sleep 100 & sleep 100");
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let membership = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    assert!(membership.lines().all(|line| line.ends_with(&path_of("whole"))), "{membership}");
    let begin = Instant::now();
    while guard.cgroup.pids().unwrap().len() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!guard.cgroup.is_empty().unwrap());

    let again = Cgroup::open(guard.cgroup.cgroups());
    again.freeze().unwrap();
    assert!(again.is_frozen().unwrap());
    again.thaw().unwrap();
    assert!(!again.is_frozen().unwrap());

    again.kill(libc::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    again.kill(libc::SIGKILL).unwrap();
    again.remove().unwrap();
    assert!(guard.dirs().iter().all(|dir| !dir.exists()));
    assert!(again.is_empty().unwrap() && again.pids().unwrap().is_empty() && !again.is_frozen().unwrap());
    again.kill(libc::SIGKILL).unwrap();
    again.remove().unwrap();
}

#[test]
fn as_root_a_frozen_container_can_be_killed() {
    let guard = Guard::new("frozen", "{}").unwrap();
    let mut child = guard.shell("sleep 100");
    guard.cgroup.freeze().unwrap();
    guard.cgroup.kill(libc::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    guard.cgroup.remove().unwrap();
}

#[test]
fn as_root_the_version_1_freezer_kills_where_version_2_is_not_there() {
    let mut plan = plan_of("legacy", "{}");
    plan.groups.retain(|group| group.cgroup.hierarchy.version == Version::V1);
    if plan.groups.is_empty() {
        eprintln!("not run: this machine has no hierarchy of version 1");
        return;
    }
    let guard = Guard { cgroup: Cgroup::create(&plan).unwrap() };
    let mut child = guard.shell("sleep 100");
    guard.cgroup.freeze().unwrap();
    assert!(guard.cgroup.is_frozen().unwrap());
    guard.cgroup.thaw().unwrap();
    guard.cgroup.kill(libc::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    guard.cgroup.remove().unwrap();
    assert!(guard.cgroup.birth_fd().unwrap().is_none());
}

#[test]
fn as_root_the_version_1_freezer_stops_a_storm_of_forks() {
    let mut plan = plan_of("storm", r#"{"pids": {"limit": 60}}"#);
    plan.groups.retain(|group| group.cgroup.hierarchy.version == Version::V1);
    if plan.groups.is_empty() {
        eprintln!("not run: this machine has no hierarchy of version 1");
        return;
    }
    let guard = Guard { cgroup: Cgroup::create(&plan).unwrap() };
    let storm = "for i in 1 2 3 4 5 6; do (while :; do (:) & (:) & (: | :); done) 2>/dev/null & done; exec sleep 100";
    let mut child = guard.shell(storm);
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    for _ in 0..30 {
        guard.cgroup.freeze().unwrap();
        assert!(guard.cgroup.is_frozen().unwrap());
        let before = guard.cgroup.pids().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(guard.cgroup.pids().unwrap(), before);
        guard.cgroup.thaw().unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    guard.cgroup.kill(libc::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    guard.cgroup.remove().unwrap();
    assert!(guard.dirs().iter().all(|dir| !dir.exists()));
}

#[test]
fn as_root_there_is_one_device_program_at_a_time() {
    let deny = r#"{"devices": [{"allow": false}]}"#;
    let allow = r#"{"devices": [{"allow": true}]}"#;
    let other =
        r#"{"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]}"#;
    let guard = Guard::new("programs", deny).unwrap();
    let Some(fd) = guard.cgroup.birth_fd().unwrap() else {
        eprintln!("not run: this machine has no hierarchy of version 2");
        return;
    };
    let count = || crate::sys::bpf::own_device_programs(fd).unwrap().len();
    if guard.cgroup.cgroups().0.iter().any(|cgroup| cgroup.hierarchy.has("devices")) {
        assert_eq!(count(), 0);
        return;
    }
    assert_eq!(count(), 1);
    let mut current: LinuxResources = serde_json::from_str(deny).unwrap();
    for (next, programs) in [(other, 1), (deny, 1), (allow, 0), (other, 1), (other, 1)] {
        let named: LinuxResources = serde_json::from_str(next).unwrap();
        let plan = plan_update(guard.cgroup.cgroups(), &current, &named, &mut Faults::default()).unwrap();
        guard.cgroup.update(&plan).unwrap();
        current = plan.resources;
        assert_eq!(count(), programs, "{next}");
    }
    // Whoever comes to the same place has one too.
    drop(Cgroup::create(&plan_of("programs", other)).unwrap());
    assert_eq!(count(), 1);
}

#[test]
fn as_root_a_thread_enters_version_1_by_itself() {
    let guard = Guard::new("entrance", "{}").unwrap();
    let entrance = guard.cgroup.entrance().unwrap();
    let enter = move || {
        entrance.enter().unwrap();
        std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
    };
    let membership = std::thread::spawn(enter).join().unwrap();
    let v1 = membership.lines().filter(|line| !line.starts_with("0:"));
    assert!(v1.clone().all(|line| line.ends_with(&path_of("entrance"))), "{membership}");
    let expected = guard.cgroup.cgroups().0.iter().filter(|c| c.hierarchy.version == Version::V1).count();
    assert_eq!(v1.count(), expected);
    guard.cgroup.remove().unwrap();
}

#[test]
fn as_root_a_cgroup_that_is_in_use_is_refused_and_left_alone() {
    let guard = Guard::new("used", "{}").unwrap();
    let mut child = guard.shell("sleep 100");
    let error = Cgroup::create(&plan_of("used", "{}")).unwrap_err();
    assert_eq!(error.kind(), Kind::State);
    assert!(error.to_string().ends_with(&format!("is in use by process {}", child.id())), "{error}");
    assert!(guard.dirs().iter().all(|dir| dir.exists()));
    let busy = guard.cgroup.remove().unwrap_err();
    assert!(busy.to_string().contains(&format!("kept busy by process {}", child.id())), "{busy}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn as_root_an_empty_cgroup_that_is_there_is_taken_over() {
    let first = Guard::new("again", r#"{"pids": {"limit": 5}}"#).unwrap();
    let second =
        Guard::new("again", r#"{"pids": {"limit": 6}, "memory": {"limit": 8388608, "checkBeforeUpdate": true}}"#);
    let pids = first.cgroup.cgroups().0.iter().find(|c| c.hierarchy.has("pids")).unwrap().dir();
    assert_eq!(std::fs::read_to_string(pids.join("pids.max")).unwrap(), "6\n");
    drop(second.unwrap());
    assert!(first.dirs().iter().all(|dir| !dir.exists()));
}

#[test]
fn as_root_a_failure_half_way_leaves_nothing() {
    let mut plan = plan_of("half", r#"{"pids": {"limit": 5}}"#);
    let group = plan.groups.iter_mut().find(|group| group.cgroup.hierarchy.has("pids")).unwrap();
    "many".clone_into(&mut group.writes[0].value);
    let error = Cgroup::create(&plan).unwrap_err();
    assert!(error.to_string().starts_with("linux.resources.pids.limit: write \"many\" to \"/sys/fs/cgroup"), "{error}");
    assert!(error.to_string().ends_with("pids.max\": invalid argument (os error 22)"), "{error}");
    for cgroup in plan.cgroups().0 {
        assert!(!cgroup.dir().parent().unwrap().exists(), "{:?}", cgroup.dir());
    }
}

#[test]
fn as_root_cgroups_made_inside_are_killed_and_removed_too() {
    let guard = Guard::new("nested", "{}").unwrap();
    let mut children = Vec::new();
    for dir in guard.dirs() {
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        // A cpuset takes nobody in before it has CPUs.
        let usable = !dir.starts_with("/sys/fs/cgroup/cpuset");
        if usable && Some(&dir) == guard.dirs().first() {
            let child = Command::new("sleep").arg("100").spawn().unwrap();
            std::fs::write(dir.join("a/b/cgroup.procs"), child.id().to_string()).unwrap();
            children.push(child);
        }
    }
    assert_eq!(guard.cgroup.pids().unwrap().len(), children.len());
    guard.cgroup.kill(libc::SIGKILL).unwrap();
    guard.cgroup.remove().unwrap();
    assert!(guard.dirs().iter().all(|dir| !dir.exists()));
    for mut child in children {
        child.wait().unwrap();
    }
}

#[test]
fn as_root_the_memory_controller_is_needed_only_if_asked_for() {
    let plan = plan_of("nothing", "{}");
    assert!(plan.groups.iter().all(|group| group.controllers.is_empty()));
    assert!(!Path::new("/sys/fs/cgroup").join(&path_of("nothing")[1..]).parent().unwrap().exists());
}
