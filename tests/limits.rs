//! Limits by what they do, and limits that cannot be had.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::container::Container;
use support::{Bundle, skipped, unified};

/// Whether this machine can limit what that controller controls; says so if not.
fn has(v2: &str, v1: &str) -> bool {
    let there = if unified() {
        let text = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        text.split_whitespace().any(|name| name == v2)
    } else {
        Path::new("/sys/fs/cgroup").join(v1).join("cgroup.procs").exists()
    };
    if !there {
        skipped(&format!("this machine has no {v2} controller"));
    }
    there
}

/// A container that reads a disk, with these limits on it: the one that its root is on, or another.
fn reading(limits: impl Fn((u64, u64)) -> Value) -> Option<(Bundle, (u64, u64))> {
    let bundle = Bundle::sleeping();
    let big = bundle.inside("disk");
    fs::write(&big, vec![1; 4 << 20]).unwrap();
    fs::File::open(&big).unwrap().sync_all().unwrap();
    let device = fs::metadata(&big).unwrap().dev();
    let numbers = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let system = PathBuf::from(format!("/sys/dev/block/{}:{}", numbers.0, numbers.1));
    if system.exists() && !system.join("partition").exists() {
        return Some((bundle.set("/linux/resources/blockIO", limits(numbers)), numbers));
    }
    fs::remove_file(big).unwrap();
    let mut found: Vec<_> = fs::read_dir("/sys/block").into_iter().flatten().flatten().collect();
    found.sort_by_key(std::fs::DirEntry::file_name);
    let disk = found.iter().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let size: u64 = fs::read_to_string(entry.path().join("size")).ok()?.trim().parse().ok()?;
        let real = !["loop", "ram", "zram", "sr", "fd", "nbd"].iter().any(|kind| name.starts_with(kind));
        let numbers = fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = numbers.trim().split_once(':')?;
        let open = fs::File::open(Path::new("/dev").join(&name)).is_ok();
        (real && open && size > 8192).then_some((major.parse().ok()?, minor.parse().ok()?))
    });
    let Some((major, minor)) = disk else {
        skipped("this machine has no disk");
        return None;
    };
    let rule = json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "rw"});
    let bundle = bundle
        .set("/linux/devices/-", json!({"path": "/disk", "type": "b", "major": major, "minor": minor}))
        .set("/linux/resources/devices", json!([{"allow": false}, rule]))
        .set("/linux/resources/blockIO", limits((major, minor)));
    Some((bundle, (major, minor)))
}

#[track_caller]
fn time_to_read(container: &Container, skip: u32) -> Duration {
    let begin = Instant::now();
    // 1 MiB, past what the last one has read.
    container.sh(&[], &format!("dd if=/disk of=/dev/null bs=64k count=16 skip={skip} iflag=direct"));
    begin.elapsed()
}

#[test]
fn a_disk_is_slow_as_long_as_it_is_throttled() {
    if !has("io", "blkio") {
        return;
    }
    let throttle = |(major, minor): (u64, u64), rate: u64| json!({"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": rate}]});
    let Some((bundle, disk)) = reading(|disk| throttle(disk, 512 << 10)) else { return };
    let container = Container::of(bundle);
    let slow = time_to_read(&container, 0);
    assert!(slow > Duration::from_millis(1400), "{slow:?}");
    let update = |resources: &Value| {
        fs::write(container.join("resources.json"), resources.to_string()).unwrap();
        let file = container.join("resources.json").display().to_string();
        container.call(&["update", "--resources", &file, container.id()])
    };
    update(&json!({"blockIO": throttle(disk, 0)})).ok();
    let fast = time_to_read(&container, 16);
    assert!(fast < Duration::from_millis(900), "{fast:?}");
    let operations = json!({"throttleReadIOPSDevice": [{"major": disk.0, "minor": disk.1, "rate": 10}]});
    update(&json!({"blockIO": operations})).ok();
    let slow = time_to_read(&container, 32);
    assert!(slow > Duration::from_millis(900), "{slow:?}");
}

#[test]
fn a_disk_that_is_not_there_and_a_weight_that_cannot_be_are_named() {
    if !has("io", "blkio") {
        return;
    }
    let bundle = Bundle::sleeping();
    let missing = json!({"throttleWriteBpsDevice": [{"major": 99, "minor": 99, "rate": 4096}]});
    let error = bundle.set("/linux/resources/blockIO", missing).create().refused();
    assert!(error.starts_with("linux.resources.blockIO.throttleWriteBpsDevice[0]: write \"99:99 "), "{error}");
    assert!(error.contains("there is no such disk"), "{error}");
    let error = Bundle::sleeping().set("/linux/resources/blockIO", json!({"weight": 5})).create().refused();
    assert_eq!(error, "linux.resources.blockIO.weight: 5 is not from 10 to 1000");
}

#[test]
fn a_weight_is_set_where_the_kernel_weighs() {
    if !has("io", "blkio") {
        return;
    }
    let files: &[&str] =
        if unified() { &["io.bfq.weight", "io.weight"] } else { &["blkio.bfq.weight", "blkio.weight"] };
    let bundle = Bundle::sleeping().set("/linux/resources/blockIO", json!({"weight": 500}));
    let created = bundle.create();
    let place = if unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/blkio" };
    let dir = PathBuf::from(place).join("procrt").join(bundle.id());
    let Some(file) = files.iter().map(|file| dir.join(file)).find(|path| path.exists()) else {
        let error = created.refused();
        assert!(error.starts_with("linux.resources.blockIO.weight: open "), "{error}");
        return skipped("this kernel has nothing that weighs transfers");
    };
    created.ok();
    let text = fs::read_to_string(&file).unwrap();
    let expected = if file.ends_with("io.weight") { "4950" } else { "500" };
    assert!(text.lines().next().unwrap().ends_with(expected), "{text}");
    bundle.delete(&[]).ok();
}

#[test]
fn a_quota_stops_who_has_used_it_up() {
    let bundle = Bundle::sleeping().set("/linux/resources/cpu", json!({"quota": 5000, "period": 50000}));
    let container = Container::of(bundle);
    let begin = Instant::now();
    // What takes this long on a whole CPU takes ten times that.
    container.sh(&[], "timeout 1 sh -c 'while :; do :; done'; :");
    let place = if unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/cpu" };
    let text = fs::read_to_string(format!("{place}/procrt/{}/cpu.stat", container.id())).unwrap();
    let counted =
        |key: &str| -> u64 { text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().parse().unwrap() };
    assert!(counted("nr_throttled ") >= 5, "{text}");
    assert!(begin.elapsed() > Duration::from_millis(900));
}

#[test]
fn cpus_and_memory_nodes_that_are_not_there_are_named() {
    if !has("cpuset", "cpuset") {
        return;
    }
    for (field, list) in [("cpus", "0-4095"), ("cpus", "4000"), ("mems", "63")] {
        let error = Bundle::sleeping().set(&format!("/linux/resources/cpu/{field}"), json!(list)).create().refused();
        let start = format!("linux.resources.cpu.{field}: write {list:?} to \"/sys/fs/cgroup/");
        assert!(error.starts_with(&start) && error.contains(&format!("cpuset.{field}")), "{error}");
    }
}

#[test]
fn paths_and_controllers_that_cannot_be_are_named_and_leave_nothing() {
    for (path, why) in [
        ("/a/../b", "has \"..\" in it"),
        ("../b", "has \"..\" in it"),
        ("/", "is the root control group"),
        ("system.slice:procrt:x", "is systemd's form"),
    ] {
        let error = Bundle::sleeping().set("/linux/cgroupsPath", json!(path)).create().refused();
        assert!(error.starts_with(&format!("linux.cgroupsPath: {path:?}")) && error.contains(why), "{error}");
    }
    let error = Bundle::sleeping().set("/linux/resources/rdma", json!({"a b": {"hcaHandles": 1}})).create().refused();
    assert!(error.contains(r#"linux.resources.rdma["a b"]: is not the name"#), "{error}");
    let error = Bundle::sleeping().set("/linux/resources/hugepageLimits", json!([{"pageSize": "3MB", "limit": 1}]));
    assert!(error.create().refused().starts_with("linux.resources.hugepageLimits[0].pageSize: \"3MB\""));
    let huge = json!([{"pageSize": "512KB", "limit": 1}]);
    let error = Bundle::sleeping().set("/linux/resources/hugepageLimits", huge).create().refused();
    assert!(error.starts_with("linux.resources.hugepageLimits[0]"), "{error}");
}

#[test]
fn files_of_version_2_by_name_are_written_or_refused() {
    let of = |files: Value| Bundle::sleeping().set("/linux/resources/unified", files);
    for (file, why) in [
        ("../memory.max", "is not the name of a control group's file"),
        ("memory", "is not the name of a control group's file"),
        ("cgroup.procs", "is no resource"),
        ("nothing.max", "no version 2 hierarchy of this machine has the \"nothing\" controller"),
    ] {
        let error = of(json!({file: "1"})).create().refused();
        assert!(error.starts_with(&format!("linux.resources.unified[{file:?}]: {why}")), "{error}");
    }
    if !unified() {
        let error = of(json!({"memory.high": "1"})).create().refused();
        assert!(error.contains("no version 2 hierarchy"), "{error}");
        return skipped("this machine has memory on version 1");
    }
    let error = of(json!({"memory.frob": "1"})).create().refused();
    assert!(error.starts_with(r#"linux.resources.unified["memory.frob"]: open "/sys/fs/cgroup/"#), "{error}");
    let error = of(json!({"memory.max": "much"})).create().refused();
    assert!(error.starts_with(r#"linux.resources.unified["memory.max"]: write "much" to "#), "{error}");
    // All of the group end together, which without it only the fattest does.
    let limits = json!({"memory.max": "16777216", "memory.swap.max": "0", "memory.oom.group": "1"});
    let bundle = of(limits)
        .set("/process/args", json!(["/bin/sh", "-c", "dd if=/dev/zero of=/x bs=40M count=1; echo survived"]));
    let outcome = bundle.run();
    assert!(outcome.code() == 137 && !outcome.stdout.contains("survived"), "{outcome:?}");
}

#[test]
fn a_group_is_its_users_where_the_container_may_write_to_it() {
    if !unified() {
        return skipped("only version 2 gives groups away");
    }
    let bundle = |options: &[&str]| {
        let bundle = Bundle::sleeping().mapped(100_000).namespace("cgroup", None);
        bundle.set("/linux/resources/pids", json!({"limit": 20})).mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &[options, &["nosuid", "noexec", "nodev"]].concat(),
        )
    };
    let container = Container::of(bundle(&["rw"]));
    let script =
        "mkdir /sys/fs/cgroup/sub && sh -c 'echo 0 > /sys/fs/cgroup/sub/cgroup.procs && cat /proc/self/cgroup'";
    assert_eq!(container.sh(&[], script), "0::/sub");
    assert_eq!(container.sh(&[], "stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs"), "0\n0");
    // Its limits are not its own to change.
    assert_eq!(container.sh(&[], "stat -c %u /sys/fs/cgroup/pids.max"), "65534");
    assert_ne!(container.exec(&["sh", "-c", "echo max > /sys/fs/cgroup/pids.max"]).code(), 0);
    drop(container);
    let container = Container::of(bundle(&["ro"]));
    assert_eq!(container.sh(&[], "stat -c %u /sys/fs/cgroup"), "65534");
}

#[test]
fn devices_are_refused_in_groups_inside_too() {
    let place = if unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/devices" };
    let script = format!(
        "mknod /dev/kmsg2 c 1 11; mkdir -p {place}/a/b && echo $$ > {place}/a/b/cgroup.procs; \
         if [ -f {place}/devices.allow ]; then echo a > {place}/a/b/devices.allow; fi 2>/dev/null; \
         (: < /dev/kmsg2) 2>/dev/null && echo opened; (: < /dev/zero) && echo zero"
    );
    let bundle = Bundle::new(&script).capabilities(&["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_ADMIN"]);
    let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "noexec", "nodev"]);
    assert_eq!(bundle.run().ok(), "zero");
}

#[test]
fn a_group_that_takes_no_processes_is_refused_with_the_reason() {
    if !unified() {
        return skipped("only version 2 has such groups");
    }
    let bundle = Bundle::sleeping();
    let parent = PathBuf::from("/sys/fs/cgroup").join(format!("procrt-threads-{}", bundle.id()));
    let group = parent.join("c");
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("cgroup.type"), "threaded").unwrap();
    let name = parent.file_name().unwrap().to_str().unwrap().to_owned();
    let bundle = bundle.set("/linux/cgroupsPath", json!(format!("/{name}/c")));
    let error = bundle.create().refused();
    assert!(error.contains("is threaded: it takes threads and no processes"), "{error}");
    fs::remove_dir(&group).unwrap();
    // A new group below a threaded one is none for processes either.
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("cgroup.type"), "threaded").unwrap();
    let bundle = bundle.set("/linux/cgroupsPath", json!(format!("/{name}/c/d")));
    let error = bundle.create().refused();
    assert!(error.contains("threaded"), "{error}");
    fs::remove_dir(&group).unwrap();
    // One that hands controllers down has no place for processes.
    fs::create_dir_all(group.join("inside")).unwrap();
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").unwrap();
    fs::write(parent.join("cgroup.subtree_control"), "+memory").unwrap();
    fs::write(group.join("cgroup.subtree_control"), "+memory").unwrap();
    let bundle = bundle.set("/linux/cgroupsPath", json!(format!("/{name}/c")));
    let error = bundle.create().refused();
    assert!(error.contains("hands controllers down to others inside it"), "{error}");
    for dir in [group.join("inside"), group, parent] {
        let _ = fs::remove_dir(dir);
    }
}

#[test]
fn whoever_is_scheduled_in_real_time_is_told_what_is_missing() {
    let bundle = Bundle::running(&["/bin/true"]);
    bundle.write();
    let mut command = std::process::Command::new("chrt");
    command.args(["--fifo", "1", support::PROCRT, "--root"]).arg(bundle.store());
    command.args(["run", "--bundle"]).arg(bundle.path()).arg(bundle.id()).current_dir("/");
    let outcome = support::Outcome::of(&mut command);
    if outcome.code() == 0 {
        return skipped("this kernel has no budget of real time for groups");
    }
    let error = outcome.refused();
    assert!(error.contains("scheduled in real time") && error.contains("cpu.rt_runtime_us"), "{error}");
}
