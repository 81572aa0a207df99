//! What is in /dev and on /proc, with a user namespace and without.

mod support;

use std::fs;
use std::os::unix::fs::FileTypeExt;

use serde_json::json;
use support::container::Container;
use support::{Bundle, skipped};

/// A bundle whose container has a terminal, which `run` relays.
fn with_terminal(script: &str) -> Bundle {
    Bundle::new(script).set("/process/terminal", json!(true))
}

/// The lines that a terminal has said.
fn said(bundle: &Bundle) -> Vec<String> {
    bundle.run().ok().lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

#[test]
fn the_console_is_the_terminal_and_belongs_to_the_user() {
    let script = "tty; stat -c '%F %t:%T %u:%g %a' /dev/console /dev/pts/0; echo to the console > /dev/console; \
                  grep -c ' /dev/console ' /proc/self/mountinfo";
    for mapped in [false, true] {
        for uid in [0, 1000] {
            let bundle = with_terminal(script).set("/process/user", json!({"uid": uid, "gid": uid}));
            let bundle = if mapped { bundle.mapped(100_000) } else { bundle };
            let device = format!("character special file 88:0 {uid}:5 620");
            let expected = ["/dev/pts/0", &device, &device, "to the console", "1"];
            assert_eq!(said(&bundle), expected, "mapped: {mapped}, user {uid}");
        }
    }
    // Without a terminal there is none.
    assert_eq!(Bundle::new("ls /dev/console 2>/dev/null; true").run().ok(), "");
}

#[test]
fn the_container_makes_terminals_in_an_instance_of_its_own() {
    let script = "ls /dev/pts; exec 3<>/dev/ptmx; ls /dev/pts; stat -c '%t:%T %g %a' /dev/pts/0; stat -c '%t:%T %a' /dev/pts/ptmx";
    for mapped in [false, true] {
        let bundle = Bundle::new(script);
        let bundle = if mapped { bundle.mapped(100_000) } else { bundle };
        let host: Vec<_> = fs::read_dir("/dev/pts").unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(bundle.run().ok(), "ptmx\n0\nptmx\n88:0 5 620\n5:2 666", "mapped: {mapped}; the host has {host:?}");
    }
}

/// As a plain user's mapping may be.
#[test]
fn a_group_for_terminals_that_is_not_mapped_is_named() {
    let one = json!([{"containerID": 0, "hostID": 100_000, "size": 1}]);
    let mut bundle = Bundle::new("exec 3<>/dev/ptmx; stat -c %g /dev/pts/0").mapped(100_000);
    bundle = bundle.set("/linux/uidMappings", one.clone()).set("/linux/gidMappings", one);
    let error = bundle.create().refused();
    assert_eq!(error, "mounts[2].options: gid=5: 5 is not mapped in linux.gidMappings (leave the option out)");
    bundle.assert_nothing_left();
    bundle.config["mounts"][2]["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    assert_eq!(bundle.run().ok(), "0");
}

#[test]
fn default_devices_work_in_a_user_namespace() {
    let script = "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %F' /dev/$d; done; \
                  head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x > /dev/null && echo x > /dev/full; \
                  for l in fd stdin ptmx; do readlink /dev/$l; done";
    let outcome = Bundle::new(script).mapped(100_000).run();
    let devices = "/dev/null 1:3 666 character special file\n/dev/zero 1:5 666 character special file\n\
                   /dev/full 1:7 666 character special file\n/dev/random 1:8 666 character special file\n\
                   /dev/urandom 1:9 666 character special file\n/dev/tty 5:0 666 character special file\n";
    assert_eq!(outcome.stdout, format!("{devices}4\n4\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("No space left on device"), "{outcome:?}");
}

#[test]
fn configured_devices_of_a_user_namespace_are_the_hosts() {
    let host = fs::metadata("/dev/loop-control");
    if !host.is_ok_and(|file| file.file_type().is_char_device()) {
        return skipped("this machine has no /dev/loop-control");
    }
    let device = json!({"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237});
    let fifo = json!({"path": "/tmp/pipe", "type": "p", "fileMode": 0o640, "uid": 7, "gid": 8});
    let bundle = Bundle::new("stat -c '%t:%T %F' /dev/loop-control; stat -c '%a %u:%g %F' /tmp/pipe").mapped(100_000);
    let bundle = bundle.set("/linux/devices", json!([device, fifo]));
    let outcome = bundle.run();
    assert_eq!(outcome.stderr, "");
    assert_eq!(outcome.ok(), "a:ed character special file\n640 7:8 fifo");
    // What is asked for beyond that is said to have no effect.
    let device =
        json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 0, "gid": 9});
    let bundle = Bundle::new("stat -c %a /dev/null").mapped(100_000).set("/linux/devices", json!([device]));
    let outcome = bundle.run();
    for said in [
        "linux.devices[0].fileMode: 0600 has no effect: in a user namespace \"/dev/null\" is the host's, which has 0666",
        "linux.devices[0].gid: 9 has no effect: ",
    ] {
        assert!(outcome.stderr.contains(said), "{outcome:?}");
    }
    assert!(!outcome.stderr.contains("].uid"), "{outcome:?}");
    assert_eq!(outcome.ok(), "666");
    // And what the host does not have, that it is not there.
    let device = json!({"path": "/dev/no-such", "type": "c", "major": 1, "minor": 3});
    let error = Bundle::sleeping().mapped(100_000).set("/linux/devices", json!([device])).create().refused();
    assert_eq!(error, "make the device \"/dev/no-such\": bind the host's: no such file or directory (os error 2)");
}

/// An image can have anything at the place where a terminal is made, also what does something when it is opened.
#[test]
fn what_is_no_devpts_is_not_opened_for_a_terminal() {
    let made = |name: &str| {
        let bundle = with_terminal("true").without_mount("/dev").without_mount("/dev/pts");
        let bundle = bundle.without_mount("/dev/shm").without_mount("/dev/mqueue");
        fs::create_dir_all(bundle.inside("dev/pts")).unwrap();
        let fifo = bundle.inside(name);
        assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
        bundle
    };
    let expected = "open \"/dev/pts/ptmx\" in the root (a terminal needs a devpts mount on /dev/pts)";
    let bundle = made("dev/pts/ptmx");
    assert_eq!(bundle.run().refused(), expected);
    bundle.assert_nothing_left();
    // Nor one that processes of the container put there.
    let bundle =
        made("dev/pts/ptmx").set("/process/terminal", json!(false)).set("/process/args", json!(["sleep", "1000"]));
    let container = Container::of(bundle);
    let error = container.exec_with(&["--tty"], &["true"]).not_done();
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn only_a_procfs_belongs_on_proc() {
    for (typ, source, options) in [("tmpfs", "tmpfs", &[][..]), ("sysfs", "sysfs", &["ro"]), ("cgroup", "cgroup", &[])]
    {
        let bundle = Bundle::sleeping().without_mount("/proc").mount("/proc", typ, source, options);
        let expected =
            format!("mounts[5].type: {typ:?} is not what belongs on /proc: that is \"proc\", or a bind mount of one");
        assert_eq!(bundle.create().refused(), expected);
    }
    for source in ["/tmp", "/proc/sys", "/proc/self"] {
        let bundle = Bundle::sleeping().without_mount("/proc").mount("/proc/", "none", source, &["rbind"]);
        let error = bundle.create().refused();
        let why = "its source is not the root of a procfs, which is what belongs on /proc";
        assert_eq!(error, format!("mounts[5]: bind {source:?} on \"/proc\": {why}"));
        bundle.assert_nothing_left();
    }
    let bundle = Bundle::new("ls /proc/self/status").without_namespace("pid").without_mount("/proc");
    assert_eq!(bundle.mount("/proc", "none", "/proc", &["rbind"]).run().ok(), "/proc/self/status");
    // One more on the first, and other attributes for it.
    let bundle =
        Bundle::new("grep -c ' /proc ' /proc/self/mountinfo; echo 1 > /proc/sys/kernel/msgmax 2>&1 || echo refused");
    let bundle = bundle.mount("/proc", "proc", "proc", &[]).mount("/proc", "", "", &["remount", "ro"]);
    assert!(bundle.run().ok().starts_with("2\n"));
}
