//! Network devices that become the container's: as it sees them, and back on the host if it is not made. The host is a
//! network namespace of the test's own.

mod support;

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::{Bundle, Outcome, wait_until};

/// A network namespace in which procrt runs: what it takes for the host's.
struct Host(Child);

impl Host {
    /// One with the veth pair `out0`, which is up, and `peer0`.
    fn new() -> Self {
        let mut command = Command::new("unshare");
        let child = command.args(["--net", "sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        wait_until("a network namespace", || {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text.starts_with(b"sleep"))
        });
        let host = Self(child);
        host.ip("link add out0 mtu 1400 address 02:00:00:00:00:01 type veth peer peer0");
        host.ip("link set out0 up");
        host
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// The same command with this as the host's network.
    fn on(&self, command: &Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.arg(format!("--net={}", self.path())).arg(command.get_program()).args(command.get_args());
        entered.current_dir("/").stdin(Stdio::null());
        entered
    }

    #[track_caller]
    fn ip(&self, arguments: &str) -> String {
        Outcome::of(&mut self.on(Command::new("ip").args(arguments.split(' ')))).ok()
    }

    /// The names of the devices on the host but `lo` and those that every namespace has.
    fn names(&self) -> Vec<String> {
        let list: Vec<Value> = serde_json::from_str(&self.ip("-json link show type veth")).unwrap();
        let mut names: Vec<String> = list.iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// All that is to be restored of a device: what does not change by itself while it comes up.
    fn look_of(&self, name: &str) -> Value {
        let list: Value = serde_json::from_str(&self.ip(&format!("-json -details address show dev {name}"))).unwrap();
        let device = &list[0];
        let up = device["flags"].as_array().unwrap().contains(&json!("UP"));
        let mut addresses = device["addr_info"].as_array().unwrap().clone();
        // The kernel's own begins with a check for duplicates.
        addresses.retain(|address| address["protocol"] != "kernel_ll");
        for address in &mut addresses {
            address
                .as_object_mut()
                .unwrap()
                .retain(|key, _| !["valid_life_time", "preferred_life_time"].contains(&key.as_str()));
        }
        json!([device["ifindex"], device["mtu"], device["address"], device["master"], up, addresses])
    }

    #[track_caller]
    fn call(&self, bundle: &Bundle, command: &str) -> Outcome {
        Outcome::of(&mut self.on(&bundle.making(command, &[])))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shell(script: &str) -> Value {
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}])
}

/// The addresses of `device`, as a container sees them, a line each.
fn show(device: &str) -> String {
    format!("ip -o addr show dev {device} | sed 's/^[^ ]* [^ ]* *//; s/ *[\\].*//'")
}

#[test]
fn a_device_is_moved_renamed_and_up_with_the_addresses_that_are_kept() {
    let host = Host::new();
    for address in [
        "10.9.0.2/24 dev out0 brd +",
        "10.9.0.3/24 dev out0 label out0:x",
        "10.8.0.1 peer 10.8.0.2/32 dev out0",
        "fd00::2/64 dev out0 nodad",
        // These are not: one has an end, the others reach the link or the host alone.
        "10.9.0.4/24 dev out0 valid_lft 1000 preferred_lft 1000",
        "169.254.1.1/16 dev out0 scope link",
        "10.7.0.1/24 dev out0 scope host",
    ] {
        host.ip(&format!("addr add {address}"));
    }
    let bundle = Bundle::new(&format!("{}; ip link show dev net0; ls /sys/class/net", show("net0")))
        .set("/linux/netDevices/out0", json!({"name": "net0"}));
    let text = host.call(&bundle, "run").ok();
    for line in [
        "inet 10.9.0.2/24 brd 10.9.0.255 scope global net0",
        "inet 10.9.0.3/24 scope global secondary net0:x",
        "inet 10.8.0.1 peer 10.8.0.2/32 scope global net0",
        "inet6 fd00::2/64 scope global",
        "lo\nnet0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    for other in ["10.9.0.4", "169.254.1.1", "10.7.0.1", "out0"] {
        assert!(!text.contains(other), "{other}: {text}");
    }
    assert!(text.contains(",UP") && text.contains("mtu 1400") && text.contains("02:00:00:00:00:01"), "{text}");
    // With the container's network namespace the kernel destroys its end of the pair, and so the other one.
    wait_until("the pair's end", || host.names().is_empty());
}

#[test]
fn packets_pass_while_the_container_runs() {
    let host = Host::new();
    host.ip("addr add 10.9.0.2/24 dev out0");
    host.ip("addr add 10.9.0.1/24 dev peer0");
    host.ip("link set peer0 up");
    let bundle =
        Bundle::new("ping -c 1 -W 10 10.9.0.1 > /dev/null && echo answered").set("/linux/netDevices/out0", json!({}));
    assert_eq!(host.call(&bundle, "run").ok(), "answered");
}

#[test]
fn the_device_is_there_for_the_hooks_and_kernel_parameters_of_the_container() {
    let host = Host::new();
    let bundle = Bundle::new("cat /proc/sys/net/ipv4/conf/net0/forwarding")
        .set("/linux/netDevices/out0", json!({"name": "net0"}))
        .set("/linux/sysctl", json!({"net.ipv4.conf.net0.forwarding": "1"}));
    let log = bundle.join("log").display().to_string();
    let state = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')";
    let bundle = bundle.set(
        "/hooks/createRuntime",
        shell(&format!("{state}; nsenter --net=/proc/$pid/ns/net ip -br link show dev net0 > {log}")),
    );
    assert_eq!(host.call(&bundle, "run").ok(), "1");
    assert!(std::fs::read_to_string(log).unwrap().starts_with("net0@"));
}

#[test]
fn a_devices_kernel_parameters_can_be_spelled_either_way() {
    let host = Host::new();
    let parameters = json!({"net.ipv4.conf.net0/1.forwarding": "1", "net/ipv4/conf/net0.1/proxy_arp": "1"});
    let bundle = Bundle::new("cd /proc/sys/net/ipv4/conf/net0.1; cat forwarding proxy_arp")
        .set("/linux/netDevices/out0", json!({"name": "net0.1"}))
        .set("/linux/sysctl", parameters);
    assert_eq!(host.call(&bundle, "run").ok(), "1\n1");
}

#[test]
fn a_pattern_gives_the_first_names_that_are_free() {
    let host = Host::new();
    host.ip("link set peer0 name eth0");
    let bundle = Bundle::new("ls /sys/class/net")
        .set("/linux/netDevices/out0", json!({"name": "eth%d"}))
        .set("/linux/netDevices/eth0", json!({"name": "eth%d"}));
    assert_eq!(host.call(&bundle, "run").ok(), "eth0\neth1\nlo");
    let host = Host::new();
    let bundle = Bundle::new("ls /sys/class/net").set("/linux/netDevices/out0", json!({"name": "eth%d"}));
    assert_eq!(host.call(&bundle, "run").ok(), "eth0\nlo");
}

#[test]
fn two_devices_swap_their_names() {
    let host = Host::new();
    host.ip("link add a0 address 02:00:00:00:00:0a type veth peer b0 address 02:00:00:00:00:0b");
    let bundle = Bundle::new("cat /sys/class/net/a0/address /sys/class/net/b0/address")
        .set("/linux/netDevices/a0", json!({"name": "b0"}))
        .set("/linux/netDevices/b0", json!({"name": "a0"}));
    assert_eq!(host.call(&bundle, "run").ok(), "02:00:00:00:00:0b\n02:00:00:00:00:0a");
}

#[test]
fn a_device_goes_into_a_user_namespaces_network() {
    let host = Host::new();
    host.ip("addr add 10.9.0.2/24 dev out0");
    let bundle = Bundle::new(&show("out0")).mapped(100_000).set("/linux/netDevices/out0", json!({}));
    let text = host.call(&bundle, "run").ok();
    assert!(text.contains("inet 10.9.0.2/24 scope global out0"), "{text}");
}

#[test]
fn a_device_goes_into_a_network_namespace_that_is_joined_and_stays_there() {
    let host = Host::new();
    let other = Host::new();
    host.ip("addr add 10.9.0.2/24 dev out0");
    let bundle = Bundle::new(&show("net0")).namespace("network", Some(&other.path()));
    let bundle = bundle.set("/linux/netDevices/out0", json!({"name": "net0"}));
    let text = host.call(&bundle, "run").ok();
    assert!(text.contains("inet 10.9.0.2/24 scope global net0"), "{text}");
    assert_eq!(
        (host.names(), other.names()),
        (vec!["peer0".to_owned()], vec!["net0".into(), "out0".into(), "peer0".into()])
    );

    // A name that is in use there is found before anything is made.
    let bundle = bundle.set("/linux/netDevices", json!({"peer0": {"name": "net0"}}));
    let error = host.call(&bundle, "create").refused();
    assert_eq!(error, r#"linux.netDevices.peer0.name: "net0" is in use in the container's network namespace"#);
    assert_eq!(std::fs::read_dir(bundle.store()).unwrap().count(), 0);
    assert_eq!(host.names(), ["peer0"]);
}

#[test]
fn what_cannot_be_moved_is_refused_before_anything_is_made() {
    let host = Host::new();
    host.ip("link add bridge0 type bridge");
    let refused = |bundle: Bundle| {
        let error = host.call(&bundle, "create").refused();
        assert!(!bundle.store().exists());
        error
    };
    let error = refused(Bundle::sleeping().set("/linux/netDevices", json!({"out0": {}, "out1": {}})));
    assert_eq!(error, "linux.netDevices.out1: no such device (os error 19)");
    let error = refused(Bundle::sleeping().set("/linux/netDevices/out0", json!({})).without_namespace("network"));
    assert_eq!(error, "linux.netDevices: devices need a network namespace in linux.namespaces");
    let own = host.path();
    let error = refused(Bundle::sleeping().set("/linux/netDevices/out0", json!({})).namespace("network", Some(&own)));
    assert!(error.ends_with("is procrt's own namespace, which linux.netDevices would change"), "{error}");
    assert_eq!(host.names(), ["out0", "peer0"]);

    // This one cannot be moved by anybody, which only newer kernels say before.
    let bundle = Bundle::sleeping().set("/linux/netDevices", json!({"out0": {}, "lo2": {}}));
    host.ip("link set bridge0 name lo2");
    let outcome = host.call(&bundle, "create");
    if outcome.code() == 0 {
        // Since Linux 6.15 bridges can be.
        bundle.delete(&["--force"]).ok();
    } else {
        assert!(outcome.refused().starts_with("linux.netDevices.lo2: "));
        assert_eq!(host.names(), ["out0", "peer0"]);
    }
}

#[test]
fn a_container_that_is_not_made_gives_its_devices_back_as_they_were() {
    let host = Host::new();
    host.ip("link add bridge0 type bridge");
    host.ip("link set out0 master bridge0");
    for address in [
        "10.9.0.2/24 dev out0 brd +",
        "10.9.0.3/24 dev out0 label out0:x",
        "fd00::2/64 dev out0 nodad",
        "10.9.0.4/24 dev out0 valid_lft 1000 preferred_lft 1000",
        "169.254.1.1/16 dev out0 scope link",
    ] {
        host.ip(&format!("addr add {address}"));
    }
    let (out, peer) = (host.look_of("out0"), host.look_of("peer0"));
    let base =
        || Bundle::sleeping().set("/linux/netDevices", json!({"out0": {"name": "net0"}, "peer0": {"name": "net%d"}}));
    for (what, bundle) in [
        ("a hook on the host's side", base().set("/hooks/createRuntime", shell("exit 1"))),
        ("a hook inside", base().set("/hooks/createContainer", shell("exit 1"))),
        ("a mount", base().mount("/data", "bind", "/nonexistent", &["rbind"])),
        ("the program", base().set("/process/args", json!(["/nonexistent"]))),
        ("a parameter", base().set("/linux/sysctl", json!({"net.ipv4.conf.out0.forwarding": "1"}))),
        ("the devices themselves", base().set("/linux/netDevices/peer0", json!({"name": "net0%d"})).set(
            "/hooks/createRuntime",
            shell("pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter --net=/proc/$pid/ns/net ip link set net0 down name other; exit 1"),
        )),
    ] {
        for command in ["create", "run"] {
            let outcome = host.call(&bundle, command);
            assert_eq!(outcome.code(), 1, "{what}: {outcome:?}");
            assert!(!outcome.stderr.contains("give it back"), "{what}: {outcome:?}");
            assert_eq!(host.names(), ["out0", "peer0"], "{what}");
            assert_eq!((host.look_of("out0"), host.look_of("peer0")), (out.clone(), peer.clone()), "{what}");
            bundle.assert_nothing_left();
        }
    }
}

#[test]
fn a_device_that_cannot_have_its_addresses_inside_is_given_back() {
    let host = Host::new();
    let other = Host::new();
    host.ip("addr add fd00::2/64 dev out0 nodad");
    let off = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
    Outcome::of(&mut other.on(Command::new("sh").args(["-c", off]))).ok();
    let before = host.look_of("out0");
    let bundle = Bundle::sleeping().namespace("network", Some(&other.path()));
    let bundle = bundle.set("/linux/netDevices/out0", json!({"name": "net0"}));
    let error = host.call(&bundle, "create").refused();
    assert!(error.starts_with("linux.netDevices.out0: keep its addresses: "), "{error}");
    assert_eq!((host.look_of("out0"), other.names()), (before, vec!["out0".to_owned(), "peer0".to_owned()]));
}
