//! Control groups: where the container's are, and what their limits do.

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use support::container::Container;
use support::{Bundle, Outcome, Running, skipped, unified};

/// A file of the container's control group at `path`: on version 2 `v2`, else `v1` of that controller's hierarchy.
fn file(path: &str, v2: &str, (controller, v1): (&str, &str)) -> PathBuf {
    let path = path.trim_start_matches('/');
    if unified() {
        PathBuf::from(format!("/sys/fs/cgroup/{path}/{v2}"))
    } else {
        PathBuf::from(format!("/sys/fs/cgroup/{controller}/{path}/{v1}"))
    }
}

fn default_path(bundle: &Bundle) -> String {
    format!("/procrt/{}", bundle.id())
}

#[track_caller]
fn value(path: &str, v2: &str, v1: (&str, &str)) -> String {
    let file = file(path, v2, v1);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).trim().to_owned()
}

/// Whether this machine can limit what that controller controls; says so if not.
fn has(controller: &str) -> bool {
    let there = if unified() {
        let text = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        text.split_whitespace().any(|name| name == controller)
    } else {
        PathBuf::from("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists()
    };
    if !there {
        skipped(&format!("this machine has no {controller} controller"));
    }
    there
}

/// The paths of process `pid`, one a hierarchy.
fn paths_of(pid: i64) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().map(|line| line.splitn(3, ':').nth(2).unwrap().to_owned()).collect()
}

#[test]
fn the_container_is_in_its_group_of_every_hierarchy() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    let path = default_path(&bundle);
    let paths = paths_of(bundle.pid());
    assert!(paths.iter().all(|there| *there == path), "{paths:?}");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn an_absolute_path_is_from_the_root() {
    let bundle = Bundle::sleeping();
    let path = format!("/procrt/deep/er/{}", bundle.id());
    let bundle = bundle.set("/linux/cgroupsPath", json!(path));
    bundle.create().ok();
    let paths = paths_of(bundle.pid());
    assert!(paths.iter().all(|there| *there == path), "{paths:?}");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_relative_path_is_below_procrts_own() {
    let bundle = Bundle::sleeping();
    let path = format!("procrt/{}", bundle.id());
    let bundle = bundle.set("/linux/cgroupsPath", json!(path));
    bundle.create().ok();
    let paths = paths_of(bundle.pid());
    assert!(paths.iter().all(|there| there.ends_with(&format!("/{path}"))), "{paths:?}");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_group_that_has_processes_is_not_shared() {
    let holder = Bundle::sleeping();
    holder.create().ok();
    let bundle = Bundle::sleeping().set("/linux/cgroupsPath", json!(default_path(&holder)));
    let error = bundle.create().refused();
    assert!(error.contains(holder.id()), "{error}");
    assert_eq!(holder.status(), "created");
    holder.delete(&["--force"]).ok();
}

#[test]
fn of_containers_that_come_to_one_group_at_once_one_gets_it_and_lives() {
    let first = Bundle::sleeping();
    let path = default_path(&first);
    let all: Vec<Bundle> =
        (0..6).map(|_| Bundle::sleeping().set("/linux/cgroupsPath", json!(path))).chain([first]).collect();
    for _ in 0..3 {
        let running: Vec<Running> =
            all.iter().map(|bundle| Running::start(&mut bundle.making("create", &[]))).collect();
        let outcomes: Vec<Outcome> = running.into_iter().map(Running::finish).collect();
        let made: Vec<&Bundle> =
            all.iter().zip(&outcomes).filter(|(_, outcome)| outcome.code() == 0).map(|(bundle, _)| bundle).collect();
        assert_eq!(made.len(), 1, "{outcomes:?}");
        assert_eq!(made[0].status(), "created");
        made[0].delete(&[]).ok();
    }
}

/// A container stops, another comes to its group, and the first is deleted.
fn another_has_come(pid_namespace: bool, force: &str) {
    let bundle = |args: &[&str]| {
        let bundle = Bundle::running(args);
        if pid_namespace { bundle } else { bundle.without_namespace("pid") }
    };
    let stopped = bundle(&["/bin/true"]);
    stopped.create().ok();
    stopped.start().ok();
    stopped.wait_for_status("stopped");
    let bundle = bundle(&["/bin/sleep", "1000"]).set("/linux/cgroupsPath", json!(default_path(&stopped)));
    bundle.write();
    // Both are of one root.
    stopped.call(&["create", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).ok();
    stopped.delete(&[force]).ok();
    let state: serde_json::Value = serde_json::from_str(&stopped.call(&["state", bundle.id()]).ok()).unwrap();
    assert_eq!(state["status"], "created");
    let paths = paths_of(state["pid"].as_i64().unwrap());
    assert!(paths.iter().all(|path| *path == default_path(&stopped)), "{paths:?}");
    stopped.call(&["delete", bundle.id()]).ok();
}

#[test]
fn deleting_a_stopped_container_ends_none_that_has_come_to_its_group_since() {
    for (pid_namespace, force) in
        [(true, "--force"), (true, "--force=false"), (false, "--force"), (false, "--force=false")]
    {
        another_has_come(pid_namespace, force);
    }
}

#[test]
fn a_stranger_in_the_group_of_a_stopped_container_is_named_and_not_ended() {
    let stopped = Bundle::running(&["/bin/true"]);
    stopped.create().ok();
    let procs = file(&default_path(&stopped), "cgroup.procs", ("pids", "cgroup.procs"));
    let mut stranger = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    fs::write(procs, stranger.id().to_string()).unwrap();
    stopped.start().ok();
    stopped.wait_for_status("stopped");
    let error = stopped.delete(&["--force"]).refused();
    assert!(error.contains(&format!("it is kept busy by process {}", stranger.id())), "{error}");
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    stopped.delete(&[]).ok();
}

#[test]
fn groups_that_the_container_made_inside_are_removed_with_it() {
    let place = if unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
    let bundle = Bundle::new(&format!(
        "mkdir {place}/sub && echo made > /out && sleep 1000 & echo $! > {place}/sub/cgroup.procs; wait"
    ));
    let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "noexec", "nodev"]);
    bundle.create().ok();
    bundle.start().ok();
    bundle.wait_for_file("out");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn memory_beyond_the_limit_kills() {
    if !has("memory") {
        return;
    }
    let limit = 16 << 20;
    let bundle = Bundle::new("yes | tr '\\n' x | head -c 100000000 | awk '{ print length($0) }'; exec sleep 1000");
    let bundle = bundle.set("/linux/resources/memory", json!({"limit": limit, "swap": limit}));
    bundle.create().ok();
    let path = default_path(&bundle);
    assert_eq!(value(&path, "memory.max", ("memory", "memory.limit_in_bytes")), limit.to_string());
    bundle.delete(&[]).ok();
    // A file system in memory counts too, and cannot be argued with.
    let bundle = Bundle::new("dd if=/dev/zero of=/dev/shm/x bs=1048576 count=60; echo survived");
    let outcome = bundle.set("/linux/resources/memory", json!({"limit": limit, "swap": limit})).run();
    assert!(outcome.code() == 137 || outcome.stderr.contains("Killed"), "{outcome:?}");
    // Without a limit it is room enough.
    let outcome = Bundle::new("dd if=/dev/zero of=/dev/shm/x bs=1048576 count=60 2>/dev/null; echo survived").run();
    assert_eq!(outcome.ok(), "survived");
}

#[test]
fn a_memory_reservation_is_written() {
    if !has("memory") {
        return;
    }
    let bundle = Bundle::sleeping().set("/linux/resources/memory", json!({"limit": 64 << 20, "reservation": 32 << 20}));
    bundle.create().ok();
    let text = value(&default_path(&bundle), "memory.low", ("memory", "memory.soft_limit_in_bytes"));
    assert_eq!(text, (32 << 20).to_string());
    bundle.delete(&[]).ok();
}

#[test]
fn processes_beyond_the_limit_are_refused() {
    if !has("pids") {
        return;
    }
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all";
    let bundle = Bundle::new(script).set("/linux/resources/pids/limit", json!(5));
    let outcome = bundle.run();
    assert!(outcome.stderr.contains("fork") && outcome.code() != 0, "{outcome:?}");
    let bundle = Bundle::sleeping().set("/linux/resources/pids/limit", json!(-1));
    bundle.create().ok();
    assert_eq!(value(&default_path(&bundle), "pids.max", ("pids", "pids.max")), "max");
    bundle.delete(&[]).ok();
}

#[test]
fn cpu_quota_and_shares_are_written() {
    if !has("cpu") {
        return;
    }
    let bundle = Bundle::sleeping();
    let bundle = bundle.set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000, "shares": 512}));
    bundle.create().ok();
    let path = default_path(&bundle);
    if unified() {
        assert_eq!(value(&path, "cpu.max", ("", "")), "50000 100000");
        let weight: u64 = value(&path, "cpu.weight", ("", "")).parse().unwrap();
        assert!((1..100).contains(&weight), "{weight}");
    } else {
        assert_eq!(value(&path, "", ("cpu", "cpu.cfs_quota_us")), "50000");
        assert_eq!(value(&path, "", ("cpu", "cpu.cfs_period_us")), "100000");
        assert_eq!(value(&path, "", ("cpu", "cpu.shares")), "512");
    }
    bundle.delete(&[]).ok();
}

#[test]
fn a_set_of_cpus_is_the_containers() {
    if !has("cpuset") {
        return;
    }
    let bundle = Bundle::new("grep ^Cpus_allowed_list /proc/self/status");
    let bundle = bundle.set("/linux/resources/cpu", json!({"cpus": "0"}));
    assert_eq!(bundle.run().ok().split_whitespace().last(), Some("0"));
}

#[test]
fn devices_are_refused_and_allowed_by_the_rules() {
    // 1:11 is kmsg, 10:229 fuse, 7:9 loop9; random, zero and null are every container's.
    let script = "mknod /tmp/kmsg c 1 11 && echo mknod; (: < /tmp/kmsg) && echo kmsg; mknod /tmp/loop b 7 9; \
                  (: < /tmp/loop) && echo loop; (: > /dev/zero) && echo zero; : > /dev/null && echo null; \
                  head -c 1 /dev/random > /dev/null && echo random";
    let run = |rules: serde_json::Value| -> Outcome {
        let script = format!("({script}) 2>/tmp/errors; grep -c 'not permitted' /tmp/errors");
        let bundle = Bundle::new(&script).capabilities(&["CAP_MKNOD", "CAP_SYSLOG"]);
        bundle.set("/linux/resources/devices", rules).run()
    };
    let text = run(json!([{"allow": false, "access": "rwm"}]));
    assert_eq!(text.stdout, "mknod\nzero\nnull\nrandom\n2\n");
    let text = run(json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}
    ]));
    assert_eq!(text.stdout, "mknod\nkmsg\nzero\nnull\nrandom\n1\n");
    // The last that matches decides.
    let text = run(json!([
        {"allow": true, "access": "rwm"},
        {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rm"}
    ]));
    // Whether there is a loop9 is the kernel's to say.
    assert!(text.stdout.contains("zero\nnull\nrandom\n"), "{text:?}");
    assert!(!text.stdout.contains("kmsg") && !text.stdout.contains("mknod"), "{text:?}");
}

#[test]
fn limits_hold_from_the_first_instruction() {
    if !has("pids") {
        return;
    }
    let bundle = Bundle::sleeping().set("/linux/resources/pids/limit", json!(7));
    bundle.create().ok();
    let pid = bundle.pid().to_string();
    let listed = value(&default_path(&bundle), "cgroup.procs", ("pids", "cgroup.procs"));
    assert_eq!(listed, pid);
    assert_eq!(value(&default_path(&bundle), "pids.max", ("pids", "pids.max")), "7");
    bundle.delete(&[]).ok();
}

#[test]
fn a_limit_of_no_process_is_not_the_same_as_no_limit() {
    // The last command of a shell's is no child of it.
    let bundle = || Bundle::new("/bin/true; echo forked");
    let outcome = bundle().set("/linux/resources/pids", json!({"limit": 0})).run();
    assert!(outcome.code() != 0 && outcome.stderr.contains("can't fork"), "{outcome:?}");
    for pids in [json!({}), json!({"limit": -1})] {
        assert_eq!(bundle().set("/linux/resources/pids", pids).run().ok(), "forked");
    }
}

/// A bundle's container, by procrt with a `--cgroup-manager`.
fn managed(bundle: &Bundle, who: &[&str], command: &str) -> Outcome {
    bundle.write();
    let mut args: Vec<&str> = who.iter().flat_map(|who| ["--cgroup-manager", who]).collect();
    args.extend([command, "--bundle", bundle.path().to_str().unwrap(), bundle.id()]);
    Outcome::of(&mut bundle.command(&args))
}

#[test]
fn without_a_manager_the_container_has_no_group_and_lives_all_the_same() {
    let bundle = Bundle::sleeping();
    let path = format!("/procrt/never-{}", bundle.id());
    let bundle = bundle
        .set("/linux/cgroupsPath", json!(path))
        .set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
    managed(&bundle, &["disabled"], "create").ok();
    assert_eq!(paths_of(bundle.pid()), paths_of(std::process::id().into()));
    assert!(!file(&path, "", ("memory", "")).exists());
    let container = Container::of_created(bundle);
    assert_eq!(container.exec(&["cat", "/proc/1/comm"]).ok(), "sleep");
    let listed = container.call(&["ps", "--format", "json", container.id()]).ok();
    assert_eq!(listed, format!("[{}]", container.pid()));
    let error = container.call(&["pause", container.id()]).refused();
    assert!(error.ends_with(": freeze: the container has no control group"), "{error}");
    let error = container.call(&["update", "--memory", "64M", container.id()]).refused();
    let expected = "linux.resources.memory.limit: takes a control group with the \"memory\" controller, and the container has none";
    assert!(error.contains(expected), "{error}");
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete(&[]).ok();
    container.assert_nothing_left();
}

#[test]
fn without_a_manager_limits_are_refused_before_anything_is_made() {
    let bundle = Bundle::sleeping()
        .set("/linux/resources/pids", json!({"limit": 10}))
        .set("/linux/resources/unified", json!({"memory.high": "1000000"}));
    let outcome = managed(&bundle, &["disabled"], "run");
    assert_eq!(outcome.code(), 1, "{outcome:#?}");
    for expected in [
        "warning: linux.resources.devices: hold nothing back, as the container has no control group",
        "linux.resources.pids.limit: takes a control group with the \"pids\" controller, and the container has none",
        "linux.resources.unified[\"memory.high\"]: takes a control group with the \"memory\" controller",
    ] {
        assert!(outcome.stderr.contains(expected), "{outcome:#?}");
    }
    bundle.assert_nothing_left();
}

#[test]
fn of_two_managers_the_last_makes_the_group() {
    let bundle = Bundle::sleeping();
    managed(&bundle, &["disabled", "cgroupfs"], "create").ok();
    let path = default_path(&bundle);
    let paths = paths_of(bundle.pid());
    assert!(paths.iter().all(|there| *there == path), "{paths:?}");
    bundle.delete(&["--force"]).ok();
}
