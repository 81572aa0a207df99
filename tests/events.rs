//! `events`: what a container uses and when it is out of memory, as runc prints it.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::container::Container;
use support::{Bundle, Running, skipped, unified, wait_until};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[track_caller]
fn stats(bundle: &Bundle) -> Value {
    let event: Value = serde_json::from_str(&bundle.call(&["events", "--stats", bundle.id()]).ok()).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bundle.id())));
    event["data"].clone()
}

#[test]
fn what_a_container_uses_is_told_in_runcs_form() {
    let bundle = Bundle::sleeping().set("/linux/resources/memory", json!({"limit": 64 << 20}));
    let bundle =
        bundle.set("/linux/resources/pids", json!({"limit": 50})).set("/linux/resources/cpu", json!({"shares": 512}));
    let container = Container::of(bundle);
    container.sh(&[], "dd if=/dev/zero of=/dev/shm/x bs=1048576 count=8 2>/dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    let data = stats(&container);
    let keys: Vec<&str> = data.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected =
        ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"].to_vec();
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let number =
        |pointer: &str| data.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {data}"));
    assert_eq!(number("/memory/usage/limit"), 64 << 20);
    assert!((8 << 20..64 << 20).contains(&number("/memory/usage/usage")), "{data}");
    assert!(number("/memory/swap/usage") >= number("/memory/usage/usage"));
    assert!(number(if unified() { "/memory/raw/anon" } else { "/memory/raw/rss" }) > 0);
    assert_eq!((number("/pids/current"), number("/pids/limit")), (1, 50));
    assert!(number("/cpu/usage/total") > 1_000_000, "{data}");
    assert_eq!(data["network_interfaces"], Value::Null);
    container.sh(&[], "rm /dev/shm/x");
}

#[test]
fn throttling_is_counted() {
    let bundle = Bundle::sleeping().set("/linux/resources/cpu", json!({"quota": 2000, "period": 20000}));
    let container = Container::of(bundle);
    container.sh(&[], "timeout 1 sh -c 'while :; do :; done'; :");
    let data = stats(&container);
    let throttled = data.pointer("/cpu/throttling/throttledPeriods").and_then(Value::as_u64).unwrap();
    let time = data.pointer("/cpu/throttling/throttledTime").and_then(Value::as_u64).unwrap();
    assert!(throttled > 5 && time > 100_000_000, "{data}");
}

#[test]
fn stats_come_at_every_interval_until_the_container_ends() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    bundle.start().ok();
    let begin = Instant::now();
    let watching = Running::start(&mut bundle.command(&["events", "--interval", "100ms", bundle.id()]));
    wait_until("three events", || watching.stdout().lines().count() >= 3);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    bundle.kill("KILL").ok();
    let events = lines(&watching.finish().ok());
    assert!(events.iter().all(|event| event["type"] == "stats" && event["id"] == bundle.id()), "{events:?}");
    bundle.delete(&[]).ok();
}

#[test]
fn a_lack_of_memory_is_told_when_it_happens() {
    let size = 16 << 20;
    let bundle = Bundle::sleeping().set("/linux/resources/memory", json!({"limit": size, "swap": size}));
    if !unified() && !std::path::Path::new("/sys/fs/cgroup/memory/cgroup.event_control").exists() {
        return skipped("the memory controller tells nobody");
    }
    let container = Container::of(bundle);
    let watching = Running::start(&mut container.command(&["events", "--interval", "1h", container.id()]));
    // The command has no way to say that it watches.
    let mut tries = 0;
    while watching.stdout().is_empty() {
        tries += 1;
        assert!(tries < 20, "nothing was told");
        let outcome = container.exec(&["sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1048576 count=60"]);
        assert!(outcome.code() != 0, "{outcome:?}");
        let _ = container.exec(&["rm", "-f", "/dev/shm/x"]);
    }
    container.kill("KILL").ok();
    let events = lines(&watching.finish().ok());
    assert!(
        !events.is_empty() && events.iter().all(|event| *event == json!({"type": "oom", "id": container.id()})),
        "{events:?}"
    );
}

#[test]
fn the_death_of_the_first_process_for_want_of_memory_is_told_too() {
    let size = 16 << 20;
    let script = "read line < /go; exec dd if=/dev/zero of=/big bs=40M count=1";
    let bundle = Bundle::new(script).set("/linux/resources/memory", json!({"limit": size, "swap": size}));
    nix::unistd::mkfifo(&bundle.inside("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    bundle.create().ok();
    bundle.start().ok();
    let watching = Running::start(&mut bundle.command(&["events", "--interval", "100ms", bundle.id()]));
    wait_until("the watch", || !watching.stdout().is_empty());
    std::fs::write(bundle.inside("go"), "go\n").unwrap();
    let events = lines(&watching.finish().ok());
    assert!(events.iter().any(|event| event["type"] == "oom"), "{events:?}");
    bundle.delete(&[]).ok();
}

#[test]
fn a_container_that_has_ended_has_no_events() {
    let bundle = Bundle::running(&["/bin/true"]);
    bundle.create().ok();
    stats(&bundle);
    bundle.start().ok();
    bundle.wait_for_status("stopped");
    for options in [&["events", "--stats"][..], &["events"]] {
        let error = bundle.call(&[options, &[bundle.id()]].concat()).refused();
        assert!(error.ends_with("container not running"), "{error}");
    }
    bundle.delete(&[]).ok();
    let error = bundle.call(&["events", "--interval", "0s", bundle.id()]).refused();
    assert!(error.contains("is no time at all"), "{error}");
}
