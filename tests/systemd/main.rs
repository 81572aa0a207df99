//! Control groups that systemd makes: where it runs, on a machine with control groups of version 2 alone.

mod manager;
#[path = "../support/mod.rs"]
mod support;
mod unit;

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Bundle, Outcome, skipped, unified, wait_until};

/// Whether systemd is there to be asked; says so if not.
fn systemd() -> bool {
    let there = Path::new("/run/systemd/system").is_dir() && unified();
    if !there {
        skipped("systemd does not run here, on control groups of version 2 alone");
    }
    there
}

/// A bundle whose container is a scope.
struct Scope(Bundle);

impl Deref for Scope {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        &self.0
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", self.id()]);
        if !std::thread::panicking() {
            assert_eq!(property(&self.unit(), "LoadState"), "not-found");
        }
    }
}

impl Scope {
    fn create(&self) -> Outcome {
        self.write();
        let path = self.path().to_str().unwrap();
        self.call(&["--systemd-cgroup", "create", "--bundle", path, self.id()])
    }

    fn run(&self) -> Outcome {
        self.write();
        let path = self.path().to_str().unwrap();
        self.call(&["--systemd-cgroup", "run", "--bundle", path, self.id()])
    }

    fn unit(&self) -> String {
        format!("procrt-{}.scope", self.id())
    }

    /// A file of its control group, in the default slice.
    fn file(&self, name: &str) -> PathBuf {
        Path::new("/sys/fs/cgroup/system.slice").join(self.unit()).join(name)
    }

    #[track_caller]
    fn value(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap().trim_end().to_owned()
    }
}

fn systemctl(args: &[&str]) -> Outcome {
    Outcome::of(Command::new("systemctl").args(args).stdin(Stdio::null()))
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).ok()
}

fn cgroup_of(pid: i64) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().trim_end().to_owned()
}

#[test]
fn a_container_is_a_scope_with_its_limits_as_properties() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::sleeping().set("/linux/resources", json!({
        "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 4 << 20},
        "cpu": {"shares": 512, "quota": 10_000, "period": 30_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 20},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
    })));
    scope.create().ok();
    scope.start().ok();
    assert_eq!(cgroup_of(scope.pid()), format!("0::/system.slice/{}", scope.unit()));
    let unit = scope.unit();
    for (name, value) in [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("CollectMode", "inactive-or-failed"),
        ("MemoryMax", "67108864"),
        ("MemoryLow", "4194304"),
        ("MemorySwapMax", "0"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "340ms"),
        ("CPUQuotaPeriodUSec", "30ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("TasksMax", "20"),
        ("DevicePolicy", "strict"),
    ] {
        assert_eq!(property(&unit, name), value, "{name}");
    }
    assert!(property(&unit, "DeviceAllow").contains("/dev/char/10:229 rw"));
    assert!(property(&unit, "Description").contains(scope.id()));
    // The files have what the configuration says, where systemd's steps are coarser.
    assert_eq!(scope.value("cpu.max"), "10000 30000");
    assert_eq!(scope.value("memory.max"), "67108864");
    assert_eq!(scope.value("cgroup.procs"), scope.pid().to_string());
    // systemd writes what it thinks the limits are.
    systemctl(&["daemon-reload"]).ok();
    assert_eq!((scope.value("memory.max"), scope.value("pids.max")), ("67108864".to_owned(), "20".to_owned()));
    assert_eq!(scope.status(), "running");
    scope.delete(&["--force"]).ok();
    assert_eq!(property(&unit, "LoadState"), "not-found");
    assert!(!scope.file("").exists());
}

#[test]
fn limits_hold() {
    if !systemd() {
        return;
    }
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1048576 count=60; echo survived";
    let limits = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let scope = Scope(Bundle::new(script).set("/linux/resources", limits));
    let outcome = scope.run();
    assert!(outcome.code() == 137 || outcome.stderr.contains("Killed"), "{outcome:?}");
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all";
    let outcome = Scope(Bundle::new(script).set("/linux/resources/pids/limit", json!(5))).run();
    assert!(outcome.stderr.contains("fork") && outcome.code() != 0, "{outcome:?}");
}

#[test]
fn device_rules_hold_exactly_also_when_systemd_is_reloaded() {
    if !systemd() {
        return;
    }
    // systemd knows majors, by their drivers, and neither order nor refusals: a hole in a wildcard is procrt's to keep.
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "access": "rw"},
        {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rw"},
    ]);
    let script = "mknod /tmp/kmsg c 1 11; mknod /tmp/port c 1 4; look() { (: < /tmp/kmsg) && echo kmsg; \
                  (: < /dev/zero) && echo zero; echo looked; }; look > /out 2>&1; while [ ! -e /go ]; do sleep 0.05; done; \
                  look > /again 2>&1; sleep 1000";
    let scope =
        Scope(Bundle::new(script).capabilities(&["CAP_MKNOD", "CAP_SYSLOG"]).set("/linux/resources/devices", rules));
    scope.create().ok();
    scope.start().ok();
    let check = |file: &str| {
        let mut text = String::new();
        wait_until(file, || {
            text = fs::read_to_string(scope.inside(file)).unwrap_or_default();
            text.contains("looked")
        });
        assert!(text.contains("zero\n") && !text.contains("kmsg\n"), "{text}");
    };
    check("out");
    systemctl(&["daemon-reload"]).ok();
    fs::write(scope.inside("go"), "").unwrap();
    check("again");
}

#[test]
fn exec_and_pause_are_in_the_same_scope() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::sleeping());
    scope.create().ok();
    scope.start().ok();
    scope.call(&["--systemd-cgroup", "exec", "--detach", scope.id(), "sleep", "1000"]).ok();
    assert_eq!(scope.value("cgroup.procs").lines().count(), 2);
    scope.call(&["--systemd-cgroup", "pause", scope.id()]).ok();
    assert_eq!((scope.status().as_str(), scope.value("cgroup.freeze").as_str()), ("paused", "1"));
    scope.call(&["--systemd-cgroup", "resume", scope.id()]).ok();
    assert_eq!(scope.status(), "running");
    scope.delete(&["--force"]).ok();
    assert!(!scope.file("").exists());
}

#[test]
fn an_update_is_systemds_too() {
    if !systemd() {
        return;
    }
    let limits = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}});
    let scope = Scope(Bundle::sleeping().set("/linux/resources", limits));
    scope.create().ok();
    let (unit, id) = (scope.unit(), scope.id().to_owned());
    let update = |options: &[&str]| scope.call(&[&["update"], options, &[&id]].concat());
    update(&["--memory", "32M", "--cpu-quota", "10000", "--cpu-period", "30000", "--cpuset-cpus", "0"]).ok();
    for (name, value) in [
        ("MemoryMax", "33554432"),
        ("CPUQuotaPerSecUSec", "340ms"),
        ("CPUQuotaPeriodUSec", "30ms"),
        ("AllowedCPUs", "0"),
        ("TasksMax", "20"),
    ] {
        assert_eq!(property(&unit, name), value, "{name}");
    }
    // systemd's steps are coarser than the file's.
    assert_eq!(scope.value("cpu.max"), "10000 30000");
    systemctl(&["daemon-reload"]).ok();
    assert_eq!(scope.value("memory.max"), "33554432");
    // All or nothing: neither changes.
    update(&["--memory", "16M", "--cpuset-cpus", "4000"]).refused();
    assert_eq!((property(&unit, "MemoryMax").as_str(), scope.value("memory.max").as_str()), ("33554432", "33554432"));
    scope.delete(&["--force"]).ok();
    let left = Outcome::of(Command::new("find").args(["/run/systemd", "-name", &format!("*{id}*")]));
    assert_eq!(left.stdout, "", "{left:?}");
}

#[test]
fn a_device_that_an_update_allows_is_systemds_too() {
    if !systemd() {
        return;
    }
    let script =
        "mknod /tmp/kmsg c 1 11; while :; do (: < /tmp/kmsg) 2>/dev/null && echo kmsg > /out; sleep 0.05; done";
    let scope = Scope(Bundle::new(script).capabilities(&["CAP_MKNOD", "CAP_SYSLOG"]));
    scope.create().ok();
    scope.start().ok();
    let file = scope.join("resources.json");
    fs::write(&file, r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#).unwrap();
    scope.call(&["update", "--resources", file.to_str().unwrap(), scope.id()]).ok();
    assert_eq!(scope.wait_for_file("out"), "kmsg");
    assert!(property(&scope.unit(), "DeviceAllow").contains("/dev/char/1:11 r"));
}

#[test]
fn annotations_are_properties() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::sleeping().set(
        "/annotations",
        json!({
            "org.systemd.property.TimeoutStopSec": "3",
            "org.systemd.property.CollectMode": "'inactive'",
            "org.systemd.property.After": "['multi-user.target']",
            "org.systemd.property.MemoryHigh": "uint64 50000000",
            "org.other": "'x",
        }),
    ));
    scope.create().ok();
    let unit = scope.unit();
    assert_eq!(property(&unit, "TimeoutStopUSec"), "3s");
    assert_eq!(property(&unit, "CollectMode"), "inactive");
    assert!(property(&unit, "After").contains("multi-user.target"));
    assert_eq!(property(&unit, "MemoryHigh"), "50000000");
    scope.delete(&["--force"]).ok();
}

#[test]
fn a_container_that_ends_by_itself_leaves_no_unit() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::new("cat /proc/self/cgroup"));
    assert_eq!(scope.run().ok(), "0::/");
    assert_eq!(property(&scope.unit(), "LoadState"), "not-found");
}

#[test]
fn a_user_namespace_and_a_joined_one_change_nothing() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::sleeping().mapped(100_000));
    scope.create().ok();
    scope.start().ok();
    assert_eq!(cgroup_of(scope.pid()), format!("0::/system.slice/{}", scope.unit()));
    let path = format!("/proc/{}/ns/user", scope.pid());
    let joining = Scope(Bundle::sleeping().namespace("user", Some(&path)));
    joining.create().ok();
    assert_eq!(cgroup_of(joining.pid()), format!("0::/system.slice/{}", joining.unit()));
    joining.delete(&["--force"]).ok();
    scope.delete(&["--force"]).ok();
}

#[test]
fn many_in_a_row_leave_no_failed_unit() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::new("true"));
    for _ in 0..support::rounds(100) {
        scope.run().ok();
    }
    let failed = systemctl(&["list-units", "--all", "--plain", "--no-legend", "procrt-*"]).ok();
    assert!(!failed.contains(scope.id()), "{failed}");
}

#[test]
fn a_container_sees_its_scope_at_sys_fs_cgroup() {
    if !systemd() {
        return;
    }
    let script = "cat /sys/fs/cgroup/cgroup.procs; cat /sys/fs/cgroup/pids.max";
    let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    for mapped in [false, true] {
        let bundle = Bundle::new(script).mount("/sys/fs/cgroup", "cgroup", "cgroup", &options);
        let bundle = bundle.set("/linux/resources/pids/limit", json!(9));
        let scope = Scope(if mapped { bundle.mapped(100_000) } else { bundle });
        let output = scope.run().ok();
        assert!(output.ends_with("\n9") && output.starts_with('1'), "{mapped}: {output}");
    }
}
