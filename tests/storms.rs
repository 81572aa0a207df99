//! Containers that fork as fast as they can, and updates that come all at once. PROCRT_STRESS=2500 is 200 fork bombs and
//! two times 500 updates.

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use support::container::Container;
use support::{Bundle, Outcome, Running, rounds, unified, wait_until};

/// Forks all the time, up to the limit. A shell that cannot fork ends, and awk goes on; and the first process, which is
/// `init` in a PID namespace of its own, leaves no zombies.
fn bomb(limit: u32) -> Bundle {
    let script = "n=0; while [ $n -lt 12 ]; do n=$((n + 1)); \
                  awk 'BEGIN { system(\"sleep 0.3\"); while (1) system(\"f() { sleep 0.05 & sleep 0.05 & }; f; f; f & f &\") }' 2>/dev/null & \
                  done; trap '' CHLD; exec sleep 1000";
    Bundle::new(script).set("/linux/resources/pids", json!({"limit": limit}))
}

fn file(bundle: &Bundle, controller: &str, name: &str) -> PathBuf {
    let id = bundle.id();
    if unified() {
        format!("/sys/fs/cgroup/procrt/{id}/{name}").into()
    } else {
        format!("/sys/fs/cgroup/{controller}/procrt/{id}/{name}").into()
    }
}

fn processes(bundle: &Bundle) -> usize {
    fs::read_to_string(file(bundle, "pids", "cgroup.procs")).unwrap_or_default().lines().count()
}

#[track_caller]
fn explode(bundle: &Bundle) {
    bundle.create().ok();
    bundle.start().ok();
    wait_until("the storm", || processes(bundle) > 20);
}

#[test]
fn a_fork_bomb_is_deleted_by_force_and_leaves_nothing() {
    for _ in 0..rounds(8) {
        let bundle = bomb(100);
        explode(&bundle);
        bundle.delete(&["--force"]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_fork_bomb_in_the_hosts_pid_namespace_is_deleted_by_force_and_leaves_nothing() {
    for _ in 0..rounds(8) {
        let bundle = bomb(100).without_namespace("pid");
        explode(&bundle);
        bundle.delete(&["--force"]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_fork_bomb_whose_first_process_has_ended_can_be_ended_with_all_it_has_made() {
    for round in 0..rounds(4) {
        let bundle = bomb(100).without_namespace("pid");
        explode(&bundle);
        bundle.kill("KILL").ok();
        bundle.wait_for_status("stopped");
        if round % 2 == 0 {
            bundle.call(&["kill", "--all", bundle.id(), "KILL"]).ok();
        }
        bundle.delete(&[]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_storm_of_forks_is_paused_and_goes_on() {
    for shared in [false, true] {
        let bundle = bomb(60);
        let bundle = if shared { bundle.without_namespace("pid") } else { bundle };
        explode(&bundle);
        for _ in 0..rounds(15) {
            bundle.call(&["pause", bundle.id()]).ok();
            assert_eq!(bundle.status(), "paused");
            // Nobody is born and nobody goes while all are stopped.
            let before = fs::read_to_string(file(&bundle, "pids", "cgroup.procs")).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
            assert_eq!(fs::read_to_string(file(&bundle, "pids", "cgroup.procs")).unwrap(), before);
            bundle.call(&["resume", bundle.id()]).ok();
        }
        bundle.call(&["pause", bundle.id()]).ok();
        bundle.delete(&["--force"]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn processes_of_groups_inside_are_listed_and_killed_too() {
    let place = if unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let freezer = if unified() { "" } else { "mkdir -p /sys/fs/cgroup/freezer/a/b; " };
    let script = format!(
        "mkdir -p {place}/a/b; {freezer}for group in a a/b; do sleep 1000 & echo $! > {place}/$group/cgroup.procs; \
         [ -d /sys/fs/cgroup/unified ] && mkdir -p /sys/fs/cgroup/unified/$group && echo $! > /sys/fs/cgroup/unified/$group/cgroup.procs; done; \
         echo ready > /out; wait"
    );
    let bundle = Bundle::new(&script).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "noexec", "nodev"]);
    bundle.create().ok();
    bundle.start().ok();
    bundle.wait_for_file("out");
    let pids: Vec<i64> = serde_json::from_str(&bundle.call(&["ps", "--format", "json", bundle.id()]).ok()).unwrap();
    assert_eq!(pids.len(), 3, "{pids:?}");
    assert!(pids.contains(&bundle.pid()));
    bundle.call(&["pause", bundle.id()]).ok();
    bundle.call(&["resume", bundle.id()]).ok();
    bundle.delete(&["--force"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_storm_of_updates_ends_in_one_of_them_as_a_whole() {
    let container = Container::sleeping();
    let storm = |limit: u32| {
        let memory = format!("{limit}M");
        let limits = ["--pids-limit".to_owned(), limit.to_string(), "--memory".to_owned(), memory];
        let quota = ["--cpu-quota".to_owned(), (limit * 100).to_string()];
        let mut words: Vec<&str> = vec!["update"];
        words.extend(limits.iter().chain(&quota).map(String::as_str));
        words.push(container.id());
        Running::start(&mut container.command(&words))
    };
    for round in 0..rounds(20) {
        let outcomes: Vec<Outcome> = [100, 200].map(storm).into_iter().map(Running::finish).collect();
        assert!(outcomes.iter().all(|outcome| outcome.code() == 0), "{round}: {outcomes:?}");
        let value = |controller: &str, v2: &str, v1: &str| {
            let text = fs::read_to_string(file(&container, controller, if unified() { v2 } else { v1 })).unwrap();
            text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        let pids = value("pids", "pids.max", "pids.max");
        assert!(pids == 100 || pids == 200, "{pids}");
        assert_eq!(value("memory", "memory.max", "memory.limit_in_bytes"), pids << 20);
        assert_eq!(value("cpu", "cpu.max", "cpu.cfs_quota_us"), pids * 100);
    }
    // Nothing but the record is in the container's directory.
    let names: Vec<_> = fs::read_dir(container.store().join(container.id())).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let record = fs::metadata(names[0].path()).unwrap();
    assert!(record.len() < 10_000, "{record:?}");
}
