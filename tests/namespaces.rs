//! Namespaces: new, shared with the host, and joined by path; and what is set inside them.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::{Bundle, skipped, wait_until};

/// The kinds as config.json and as /proc/PID/ns spell them.
const KINDS: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

/// Prints the namespaces that a process is in, a line each.
const PRINT: &str = "for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done";

fn of_process(pid: &str) -> Vec<String> {
    let read = |(_, name): &(&str, &str)| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    KINDS.iter().map(read).map(|path| path.display().to_string()).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// A process of the test's own whose namespaces are joined; it is ended with the test.
struct Holder(Child);

impl Holder {
    fn new(options: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(options).args(["sleep", "1000"]).stdin(Stdio::null());
        let child = command.spawn().expect("these tests need unshare of util-linux");
        let pid = child.id();
        wait_until("the holder's namespaces", || {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text.starts_with(b"sleep"))
        });
        Self(child)
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_kind_can_be_new() {
    let inside = lines(&Bundle::new(PRINT).mapped(100_000).namespace("time", None).run().ok());
    let host = of_process("self");
    for (index, (kind, _)) in KINDS.iter().enumerate() {
        assert_ne!(inside[index], host[index], "{kind}");
    }
}

#[test]
fn every_kind_but_the_mounts_can_be_the_hosts() {
    let mut bundle = Bundle::new(PRINT);
    for (kind, _) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        bundle = bundle.without_namespace(kind);
    }
    let inside = lines(&bundle.run().ok());
    let host = of_process("self");
    for (index, (kind, _)) in KINDS.iter().enumerate() {
        assert_eq!(inside[index] == host[index], *kind != "mount", "{kind}");
    }
}

#[test]
fn one_kind_shared_leaves_the_others_apart() {
    let host = of_process("self");
    for shared in ["ipc", "network", "pid", "uts", "cgroup"] {
        let inside = lines(&Bundle::new(PRINT).without_namespace(shared).run().ok());
        for (index, (kind, _)) in KINDS.iter().enumerate().filter(|(_, (kind, _))| !["time", "user"].contains(kind)) {
            assert_eq!(inside[index] == host[index], *kind == shared, "{kind}, with {shared} shared");
        }
    }
}

#[test]
fn with_the_hosts_mounts_the_root_is_a_chroot_that_leaves_no_mount() {
    let bundle = Bundle::new("readlink /proc/self/ns/mnt; ls -d /bin/busybox; ls /proc/self/status; : > /dev/null");
    let bundle = bundle.without_namespace("mount");
    let host = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(bundle.run().ok(), format!("{}\n/bin/busybox\n/proc/self/status", host.display()));
    bundle.assert_nothing_left();
    bundle.create().ok();
    assert!(!bundle.leftovers().is_empty());
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_root_with_an_odd_name_leaves_no_mount_on_the_host() {
    let odd = "a b\tc\nd\\e";
    let bundle = Bundle::running(&["/bin/true"]).without_namespace("mount").set("/root/path", json!(odd));
    fs::rename(bundle.join("rootfs"), bundle.join(odd)).unwrap();
    bundle.run().ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_namespace_is_joined_by_its_path() {
    let holder = Holder::new(&["--ipc", "--net", "--uts", "--cgroup"]);
    for (kind, name) in [("ipc", "ipc"), ("network", "net"), ("uts", "uts"), ("cgroup", "cgroup")] {
        let path = holder.path(name);
        let script = format!("readlink /proc/self/ns/{name}");
        let inside = Bundle::new(&script).namespace(kind, Some(&path)).run().ok();
        assert_eq!(inside, fs::read_link(&path).unwrap().display().to_string(), "{kind}");
    }
}

#[test]
fn a_time_namespace_is_joined_by_its_path() {
    let holder = Holder::new(&["--time", "--boottime", "1000000"]);
    // What an unshare of util-linux calls its own is for its children; a child of it is in there.
    let path = holder.path("time_for_children");
    let inside = Bundle::new("readlink /proc/self/ns/time").namespace("time", Some(&path)).run().ok();
    assert_eq!(inside, fs::read_link(&path).unwrap().display().to_string());
}

#[test]
fn a_pid_namespace_is_joined_by_its_path() {
    let holder = Bundle::sleeping();
    holder.create().ok();
    holder.start().ok();
    let path = format!("/proc/{}/ns/pid", holder.pid());
    let bundle = Bundle::new("readlink /proc/self/ns/pid; cat /proc/1/cmdline | tr '\\0' ' '; exit 4");
    let outcome = bundle.namespace("pid", Some(&path)).run();
    let expected = format!("{}\n/bin/sleep 1000 ", fs::read_link(&path).unwrap().display());
    assert_eq!((outcome.code(), outcome.stdout), (4, expected));
    let bundle = Bundle::sleeping().namespace("pid", Some(&path));
    bundle.create().ok();
    bundle.start().ok();
    assert_ne!(bundle.pid(), holder.pid());
    bundle.delete(&["--force"]).ok();
    assert_eq!(holder.status(), "running");
    holder.delete(&["--force"]).ok();
}

#[test]
fn a_mount_namespace_is_joined_by_its_path() {
    let holder = Holder::new(&["--mount", "--propagation", "private"]);
    let path = holder.path("mnt");
    let bundle = Bundle::new("readlink /proc/self/ns/mnt; pwd; ls -d /bin/busybox").namespace("mount", Some(&path));
    let expected = format!("{}\n/\n/bin/busybox", fs::read_link(&path).unwrap().display());
    assert_eq!(bundle.run().ok(), expected);
}

#[test]
fn a_user_namespace_is_joined_by_its_path() {
    let holder = Bundle::sleeping().mapped(100_000);
    holder.create().ok();
    holder.start().ok();
    let path = format!("/proc/{}/ns/user", holder.pid());
    let bundle = Bundle::new("readlink /proc/self/ns/user; id -u; touch /tmp/mine; ls /proc/self/status");
    let bundle = bundle.namespace("user", Some(&path));
    let expected = format!("{}\n0\n/proc/self/status", fs::read_link(&path).unwrap().display());
    assert_eq!(bundle.run().ok(), expected);
    assert_eq!(fs::metadata(bundle.inside("tmp/mine")).unwrap().uid(), 100_000);
    holder.delete(&["--force"]).ok();
}

#[test]
fn all_namespaces_of_another_container_are_joined() {
    let holder = Bundle::sleeping().mapped(100_000);
    holder.create().ok();
    holder.start().ok();
    let pid = holder.pid();
    let mut bundle = Bundle::new(PRINT);
    for (kind, name) in KINDS.iter().filter(|(kind, _)| !["mount", "cgroup", "time"].contains(kind)) {
        bundle = bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
    }
    // A procfs of another PID namespace's or a sysfs of another network namespace's owner is nobody's to mount anew.
    let inside = lines(&bundle.run().ok());
    let theirs = of_process(&pid.to_string());
    for (index, (kind, _)) in KINDS.iter().enumerate().filter(|(_, (kind, _))| !["mount", "cgroup"].contains(kind)) {
        assert_eq!(inside[index], theirs[index], "{kind}");
    }
    holder.delete(&["--force"]).ok();
}

#[test]
fn a_path_of_the_wrong_kind_is_refused() {
    for (path, expected) in [
        ("/proc/self/ns/uts", "\"/proc/self/ns/uts\" is not a network namespace"),
        ("/etc/passwd", "\"/etc/passwd\" is not a namespace"),
        ("/proc", "\"/proc\" is not a namespace"),
        ("/nonexistent", "\"/nonexistent\": no such file or directory (os error 2)"),
        ("proc/self/ns/net", "\"proc/self/ns/net\" is not an absolute path"),
    ] {
        let bundle = Bundle::sleeping().namespace("network", Some(path));
        assert_eq!(bundle.create().refused(), format!("linux.namespaces[5].path: {expected}"));
        bundle.assert_nothing_left();
    }
}

#[test]
fn root_of_a_user_namespace_is_another_user_outside() {
    let script = "id -u; id -g; awk '{print $1, $2, $3}' /proc/self/uid_map; touch /tmp/mine; echo x > /dev/null; \
                  stat -Lc %u /proc/self; ls -d /dev/mqueue /dev/pts/ptmx; touch /root/x 2>&1";
    let bundle = Bundle::new(script).mapped(100_000);
    let expected = "0\n0\n0 100000 65536\n0\n/dev/mqueue\n/dev/pts/ptmx\ntouch: /root/x: Permission denied\n";
    assert_eq!(bundle.run().stdout, expected);
    let file = fs::metadata(bundle.inside("tmp/mine")).unwrap();
    assert_eq!((file.uid(), file.gid()), (100_000, 100_000));
}

#[test]
fn every_mapping_is_the_user_namespaces() {
    let map = |lines: &[[u32; 3]]| -> Value {
        lines
            .iter()
            .map(|[inside, outside, size]| json!({"containerID": inside, "hostID": outside, "size": size}))
            .collect()
    };
    let bundle = Bundle::new("awk '{print $1, $2, $3}' /proc/self/uid_map /proc/self/gid_map")
        .namespace("user", None)
        .set("/linux/uidMappings", map(&[[0, 100_000, 10], [10, 300_000, 1], [4000, 200_000, 65536]]))
        .set("/linux/gidMappings", map(&[[0, 500_000, 7], [1000, 600_000, 3]]));
    let expected = "0 100000 10\n10 300000 1\n4000 200000 65536\n0 500000 7\n1000 600000 3";
    assert_eq!(bundle.run().ok(), expected);
}

#[test]
fn a_user_of_a_user_namespace_is_mapped_too() {
    let bundle = Bundle::new("id -u; id -g; id -G; touch /tmp/mine").mapped(200_000);
    let bundle = bundle.set("/process/user", json!({"uid": 7, "gid": 8, "additionalGids": [9, 10]}));
    assert_eq!(bundle.run().ok(), "7\n8\n8 9 10");
    let file = fs::metadata(bundle.inside("tmp/mine")).unwrap();
    assert_eq!((file.uid(), file.gid()), (200_007, 200_008));
}

#[test]
fn ids_that_are_not_mapped_are_refused() {
    let bundle = Bundle::sleeping().mapped(100_000).set("/process/user", json!({"uid": 70_000, "gid": 0}));
    assert_eq!(bundle.create().refused(), "process.user.uid: 70000 is not mapped in linux.uidMappings");
}

#[test]
fn a_container_in_a_user_namespace_lives_like_any_other() {
    let bundle = Bundle::sleeping().mapped(100_000);
    bundle.create().ok();
    bundle.start().ok();
    let status = fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    assert!(status.contains("Uid:\t100000\t100000\t100000\t100000"), "{status}");
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn a_time_namespace_shifts_the_clocks() {
    if !fs::exists("/proc/self/timens_offsets").unwrap() {
        return skipped("this kernel has no time namespaces");
    }
    let uptime = |text: &str| text.split(['.', ' ']).next().unwrap().parse::<u64>().unwrap();
    let shifted = || {
        let bundle = Bundle::new("cat /proc/uptime").namespace("time", None);
        bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 5_000_000, "nanosecs": 7}}))
    };
    for bundle in [shifted(), shifted().mapped(100_000)] {
        let inside = uptime(&bundle.run().ok());
        let host = uptime(&fs::read_to_string("/proc/uptime").unwrap());
        assert!((4_999_990..=5_000_000).contains(&(inside - host)), "{inside} {host}");
    }
    let error =
        shifted().set("/linux/timeOffsets", json!({"monotonic": {"secs": -9_000_000_000_i64}})).create().refused();
    assert!(error.starts_with("shift the clocks of the time namespace: "), "{error}");
}

#[test]
fn every_clock_is_shifted_by_seconds_and_nanoseconds() {
    if !fs::exists("/proc/self/timens_offsets").unwrap() {
        return skipped("this kernel has no time namespaces");
    }
    let offsets =
        json!({"monotonic": {"secs": 1_000_000, "nanosecs": 12}, "boottime": {"secs": -3, "nanosecs": 999_999_999}});
    let bundle = Bundle::new("awk '{print $1, $2, $3}' /proc/self/timens_offsets").namespace("time", None);
    assert_eq!(bundle.set("/linux/timeOffsets", offsets).run().ok(), "monotonic 1000000 12\nboottime -3 999999999");
}

#[test]
fn host_name_and_domain_name_are_set_inside_alone() {
    let bundle = Bundle::new("hostname; cat /proc/sys/kernel/domainname");
    let bundle = bundle.set("/hostname", json!("inside.example")).set("/domainname", json!("nis.example"));
    let outside = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(bundle.run().ok(), "inside.example\nnis.example");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), outside);
}

#[test]
fn names_of_the_hosts_own_are_refused() {
    for field in ["hostname", "domainname"] {
        let bundle = Bundle::sleeping().without_namespace("uts").set(&format!("/{field}"), json!("mine"));
        let error = bundle.create().refused();
        assert!(error.starts_with(&format!("{field}: \"mine\" needs ")), "{error}");
    }
    let bundle = Bundle::sleeping().set("/hostname", json!("x".repeat(65)));
    let error = bundle.create().refused();
    assert!(error.starts_with("hostname: "), "{error}");
}

#[test]
fn kernel_parameters_are_set_in_the_containers_namespaces() {
    let bundle = Bundle::new("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max");
    let parameters = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345", "fs/mqueue/msg_max": "17"});
    let bundle = bundle.set("/linux/sysctl", parameters);
    let host = fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    assert_eq!(bundle.run().ok(), "1\n12345\n17");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), host);
}

#[test]
fn kernel_parameters_of_the_host_are_refused() {
    for (key, shared, expected) in [
        ("vm.swappiness", "", "is not a parameter of a namespace: it would change the host"),
        ("kernel.core_pattern", "", "is not a parameter of a namespace: it would change the host"),
        ("net.ipv4.ip_forward", "network", "needs a network namespace"),
        ("kernel.msgmax", "ipc", "needs a ipc namespace"),
        ("net/../vm/swappiness", "", "is not the name of a kernel parameter"),
    ] {
        let bundle = Bundle::sleeping().without_namespace(shared).set("/linux/sysctl", json!({key: "1"}));
        assert_eq!(bundle.create().refused(), format!("linux.sysctl[{key:?}]: {expected}"));
        bundle.assert_nothing_left();
    }
    for (kind, file, field, value) in [
        ("network", "net", "linux.sysctl", json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}})),
        ("ipc", "ipc", "linux.sysctl", json!({"linux": {"sysctl": {"kernel.msgmax": "12345"}}})),
        ("uts", "uts", "hostname", json!({"hostname": "mine"})),
        ("uts", "uts", "domainname", json!({"domainname": "mine"})),
    ] {
        let path = format!("/proc/self/ns/{file}");
        let bundle = Bundle::sleeping().namespace(kind, Some(&path));
        let own = |bundle: Bundle| match field {
            "linux.sysctl" => bundle.set("/linux/sysctl", value["linux"]["sysctl"].clone()),
            field => bundle.set(&format!("/{field}"), value[field].clone()),
        };
        let error = own(bundle).create().refused();
        let sentence = format!("\"{path}\" is procrt's own namespace, which {field} would change");
        assert!(error.ends_with(&sentence), "{error}");
    }
    let bundle = Bundle::sleeping().set("/linux/sysctl", json!({"net.ipv4.no_such_thing": "1"}));
    let error = bundle.create().refused();
    assert!(error.contains("net/ipv4/no_such_thing"), "{error}");
}

#[test]
fn a_new_network_has_a_loopback_that_is_up() {
    let bundle = Bundle::new("cat /sys/class/net/lo/flags; ls /sys/class/net");
    assert_eq!(bundle.run().ok(), "0x9\nlo");
}

#[test]
fn the_cgroup_namespace_hides_where_the_container_is() {
    let bundle = Bundle::new("cat /proc/self/cgroup");
    let text = bundle.run().ok();
    assert!(text.lines().all(|line| line.ends_with(":/")), "{text}");
    let text = bundle.without_namespace("cgroup").run().ok();
    assert!(text.lines().all(|line| line.contains("/procrt/t")), "{text}");
}

#[test]
fn the_first_process_is_number_1_and_sees_no_other() {
    let bundle = Bundle::new("echo $$; ls -d /proc/[0-9]*");
    let text = bundle.run().ok();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("1"));
    assert!(lines.all(|line| ["/proc/1", "/proc/2", "/proc/3"].contains(&line)), "{text}");
}

/// What belongs to another user namespace, here the host's, is joined all the same.
#[test]
fn namespaces_of_the_hosts_are_joined_beside_a_new_user_namespace() {
    let holder = Holder::new(&["--ipc", "--net", "--uts", "--cgroup", "--time"]);
    let host = of_process("self");
    let kinds =
        [("ipc", "ipc"), ("network", "net"), ("uts", "uts"), ("cgroup", "cgroup"), ("time", "time_for_children")];
    let mut all = for_user_namespace(Bundle::sleeping().mapped(100_000));
    for (kind, file) in kinds {
        let path = holder.path(file);
        let one = for_user_namespace(Bundle::new(PRINT).mapped(100_000)).namespace(kind, Some(&path));
        let inside = lines(&one.run().ok());
        let expected = fs::read_link(&path).unwrap().display().to_string();
        for (index, (other, _)) in KINDS.iter().enumerate() {
            if *other == kind {
                assert_eq!(inside[index], expected, "{kind}");
            } else if *other != "time" {
                assert_ne!(inside[index], host[index], "{other}, with {kind} joined");
            }
        }
        all = all.namespace(kind, Some(&path));
    }
    // All at once, and by processes that join the container, in its control groups all of them.
    let container = support::container::Container::of(all);
    let first = of_process(&container.pid().to_string());
    for (kind, file) in kinds {
        let index = KINDS.iter().position(|(name, _)| *name == kind).unwrap();
        assert_eq!(first[index], fs::read_link(holder.path(file)).unwrap().display().to_string(), "{kind}");
    }
    assert_eq!(lines(&container.sh(&[], PRINT)), first);
    assert_eq!(container.sh(&[], "id -u; awk '{print $2}' /proc/self/uid_map"), "0\n100000");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert!(groups.lines().all(|line| line.contains(container.id()) || line.ends_with(":/")), "{groups}");
    assert!(groups.contains(container.id()), "{groups}");
}

#[test]
fn a_pid_namespace_of_the_hosts_is_joined_beside_a_new_user_namespace() {
    let holder = support::container::Container::sleeping();
    let path = format!("/proc/{}/ns/pid", holder.pid());
    // A procfs of another user namespace's PID namespace is not to be mounted.
    let bundle = Bundle::sleeping().mapped(100_000).without_mount("/proc").namespace("pid", Some(&path));
    let container = support::container::Container::of(bundle);
    let link = |pid: i64, file: &str| fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
    assert_eq!(link(container.pid(), "pid"), link(holder.pid(), "pid"));
    assert_ne!(link(container.pid(), "user"), link(holder.pid(), "user"));
    assert_eq!(container.sh(&[], "kill -0 1 2>&1; id -u"), "sh: can't kill pid 1: Operation not permitted\n0");
}

#[test]
fn a_joined_user_namespace_has_new_namespaces_and_ones_of_the_hosts_beside_it() {
    let owner = support::container::Container::of(Bundle::sleeping().mapped(300_000));
    let holder = Holder::new(&["--ipc", "--net", "--uts", "--cgroup"]);
    let user = format!("/proc/{}/ns/user", owner.pid());
    let (host, theirs) = (of_process("self"), of_process(&owner.pid().to_string()));
    // All others new.
    let bundle = Bundle::new(PRINT).namespace("time", None).namespace("user", Some(&user));
    let inside = lines(&bundle.run().ok());
    for (index, (kind, _)) in KINDS.iter().enumerate() {
        assert_ne!(inside[index], host[index], "{kind}");
        assert_eq!(inside[index] == theirs[index], *kind == "user", "{kind}");
    }
    // One that the user namespace owns, and the others of the host's.
    let mut bundle = for_user_namespace(Bundle::new(PRINT)).namespace("user", Some(&user));
    let uts = format!("/proc/{}/ns/uts", owner.pid());
    for (kind, file) in [("ipc", "ipc"), ("network", "net"), ("cgroup", "cgroup")] {
        bundle = bundle.namespace(kind, Some(&holder.path(file)));
    }
    let inside = lines(&bundle.namespace("uts", Some(&uts)).run().ok());
    let joined = of_process(&holder.0.id().to_string());
    for (index, (kind, _)) in KINDS.iter().enumerate() {
        match *kind {
            "user" | "uts" => assert_eq!(inside[index], theirs[index], "{kind}"),
            "ipc" | "network" | "cgroup" => assert_eq!(inside[index], joined[index], "{kind}"),
            "time" => {}
            _ => assert_ne!(inside[index], host[index], "{kind}"),
        }
    }
}

/// Without what can be mounted in namespaces of its own user namespace alone.
fn for_user_namespace(bundle: Bundle) -> Bundle {
    bundle.without_mount("/sys").without_mount("/dev/mqueue")
}

#[test]
fn a_new_user_namespace_needs_mounts_of_its_own() {
    let holder = Holder::new(&["--mount"]);
    let expected = "linux.namespaces: a new user namespace needs a new mount namespace: in another's nothing can be \
                    mounted from it";
    let bundle = Bundle::sleeping().mapped(100_000).without_namespace("mount");
    assert_eq!(bundle.create().refused(), expected);
    let bundle = bundle.namespace("mount", Some(&holder.path("mnt")));
    assert_eq!(bundle.create().refused(), expected);
}

#[test]
fn what_a_user_namespace_may_not_change_of_the_hosts_is_told() {
    let holder = Holder::new(&["--uts"]);
    let bundle = Bundle::sleeping().mapped(100_000).namespace("uts", Some(&holder.path("uts")));
    let bundle = bundle.set("/hostname", json!("mine"));
    assert_eq!(bundle.create().refused(), "hostname: set \"mine\": operation not permitted (os error 1)");
    bundle.assert_nothing_left();
}
