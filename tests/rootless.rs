//! Containers of a plain user: one without any privilege, whose own id is root inside.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;
use support::container::Container;
use support::plain::{ID, User};
use support::{Bundle, Outcome, skipped};

fn plain(script: &str) -> Bundle {
    Bundle::new(script).plain()
}

#[test]
fn a_plain_user_runs_what_spec_rootless_writes() {
    let bundle = plain("");
    let path = bundle.path().to_str().unwrap();
    Outcome::of(User(ID).procrt().args(["spec", "--rootless", "--bundle", path])).ok();
    let text = fs::read_to_string(bundle.join("config.json")).unwrap();
    let mut bundle = bundle;
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] =
        json!(["sh", "-c", "id; cat /proc/self/uid_map; hostname; echo $$; ls /sys/fs/cgroup >/dev/null"]);
    bundle.config = config;
    let said = bundle.run().ok();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["uid=0(root)", "gid=0(root)", "0", &ID.to_string(), "1", "procrt", "1"], "{said}");
}

#[test]
fn a_plain_users_container_lives_as_any_other() {
    let bundle = plain("trap 'echo heard > /tmp/heard' USR1; sleep 1000 & echo up > /tmp/up; while :; do wait; done");
    bundle.create().ok();
    assert_eq!(bundle.status(), "created");
    let container = Container::of_created(bundle);
    assert_eq!(container.status(), "running");
    container.wait_for_file("/tmp/up");
    assert_eq!(
        container.sh(&[], "id -u; cat /proc/self/uid_map | tr -s ' '; cat /proc/1/comm"),
        format!("0\n 0 {ID} 1\nsh")
    );
    let listed: serde_json::Value =
        serde_json::from_str(&container.call(&["ps", "--format", "json", container.id()]).ok()).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    container.kill("USR1").ok();
    container.wait_for_file("/tmp/heard");
    container.call(&["kill", "--all", container.id(), "KILL"]).ok();
    container.wait_for_status("stopped");
    container.delete(&[]).ok();
}

#[test]
fn what_takes_privileges_is_refused_by_its_place_before_anything_is_made() {
    let range = json!([{"containerID": 0, "hostID": ID, "size": 2}]);
    for (bundle, expected) in [
        (
            plain("").without_namespace("user").without("/linux/uidMappings").without("/linux/gidMappings"),
            format!("linux.namespaces: user {ID} is not root, and so needs a namespace of type \"user\""),
        ),
        (
            plain("").set("/process/user/additionalGids", json!([0])),
            "process.user.additionalGids: [0] cannot be set".to_owned(),
        ),
        (plain("").set("/process/user/uid", json!(7)), "process.user.uid: 7 is not mapped".to_owned()),
        (
            plain("").set("/linux/resources/memory", json!({"limit": 1 << 26})),
            "linux.resources.memory.limit: takes a control group with the \"memory\" controller, and none is delegated"
                .to_owned(),
        ),
        (plain("").set("/linux/uidMappings", range), "linux.uidMappings: newuidmap: ".to_owned()),
        (plain("").set("/linux/cgroupsPath", json!("/elsewhere")), "make control group ".to_owned()),
    ] {
        let error = bundle.run().refused();
        assert!(error.starts_with(&expected), "{error}\n{expected}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn limits_that_are_not_asked_for_need_no_control_group_unless_it_is_said() {
    plain("true").run().ok();
    let bundle = plain("true");
    bundle.write();
    let path = bundle.path().to_str().unwrap();
    let run = |rootless| bundle.call(&["--rootless", rootless, "run", "--bundle", path, bundle.id()]);
    run("true").ok();
    let error = run("false").refused();
    assert!(error.starts_with("make control group ") && error.contains("permission denied"), "{error}");
}

/// `run` in a mount namespace in which the user has a name, and 65536 subordinate ids from 300000 on.
fn run_with_ranges(bundle: &Bundle) -> Outcome {
    let passwd = format!("root:x:0:0:root:/root:/bin/sh\nplain:x:{ID}:{ID}::/:/bin/sh\n");
    let mut before = Vec::new();
    for (name, text) in [("passwd", &*passwd), ("subuid", "plain:300000:65536\n"), ("subgid", "plain:300000:65536\n")] {
        fs::write(bundle.join(name), text).unwrap();
        before.push(format!("mount --bind {} /etc/{name}", bundle.join(name).display()));
    }
    let drop = format!("setpriv --reuid {ID} --regid {ID} --clear-groups");
    bundle.run_apart_by(&before.join("; "), &drop)
}

fn maps(first: u32) -> serde_json::Value {
    json!([{"containerID": 0, "hostID": first, "size": 1}, {"containerID": 1, "hostID": 300_000, "size": 65535}])
}

fn ranged(script: &str) -> Bundle {
    plain(script).set("/linux/uidMappings", maps(ID)).set("/linux/gidMappings", maps(ID))
}

#[test]
fn ranges_are_mapped_by_newuidmap_and_newgidmap() {
    if !["/usr/bin/newuidmap", "/usr/bin/newgidmap"].iter().all(|path| std::path::Path::new(path).exists()) {
        return skipped("there is no newuidmap");
    }
    let script = "id -u; id -G; touch /tmp/mine; cat /proc/self/uid_map | tr -s ' '; cat /proc/self/setgroups";
    let bundle = ranged(script).set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 7]}));
    let said = run_with_ranges(&bundle).ok();
    assert_eq!(said, format!("1000\n1000 5 7\n 0 {ID} 1\n 1 300000 65535\nallow"));
    assert_eq!(fs::metadata(bundle.inside("/tmp/mine")).unwrap().uid(), 300_999);
    // Root inside may be a subordinate id too.
    let mapping = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
    let bundle = plain("id -u; cat /proc/self/uid_map | tr -s ' '").set("/linux/uidMappings", mapping.clone());
    let bundle = bundle.set("/linux/gidMappings", mapping);
    assert_eq!(run_with_ranges(&bundle).ok(), "0\n 0 300000 65536");
    // What is not the user's is refused, and it is said where that is to be found.
    let mapping = json!([{"containerID": 0, "hostID": 400_000, "size": 65536}]);
    let bundle = plain("true").set("/linux/uidMappings", mapping);
    let error = run_with_ranges(&bundle).refused();
    assert!(error.starts_with("linux.uidMappings: newuidmap: ") && error.ends_with("/etc/subuid)"), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn without_the_programs_their_package_is_named() {
    let bundle = ranged("true");
    let mut command = bundle.making("run", &[]);
    let error = Outcome::of(command.env("PATH", "/nonexistent")).refused();
    assert!(error.starts_with("linux.uidMappings: ") && error.contains("package uidmap"), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn what_is_shared_with_the_host_is_bound_from_it_with_a_warning() {
    let script = "ls /sys/class/net | head -1; test -d /proc/self && awk '$5 ~ /^.(sys|proc|dev.mqueue)$/ {print $5, $6}' /proc/self/mountinfo";
    let mut bundle = plain(script).without_namespace("network").without_namespace("pid");
    let mut expected = vec!["/sys", "/proc"];
    if fs::exists("/dev/mqueue").unwrap() {
        bundle = bundle.without_namespace("ipc");
        expected.push("/dev/mqueue");
    }
    let outcome = bundle.run();
    assert_eq!(outcome.code(), 0, "{outcome:#?}");
    for path in &expected {
        let line = outcome.stdout.lines().find(|line| line.split(' ').next() == Some(*path)).unwrap();
        assert!(["nosuid", "nodev", "noexec"].iter().all(|word| line.contains(word)), "{line}");
        let warning = format!("the host's {path:?} is bound on {path:?}");
        assert!(outcome.stderr.contains(&warning), "{outcome:#?}");
    }
    assert_eq!(outcome.stderr.lines().count(), expected.len(), "{outcome:#?}");
    // With its own, there is nothing to warn of.
    assert_eq!(plain("true").run().stderr, "");
}

#[test]
fn a_mounts_ids_are_not_a_plain_users_to_map() {
    let bundle = plain("true");
    fs::create_dir(bundle.inside("vol")).unwrap();
    let bundle = bundle.mount("/vol", "bind", "rootfs/tmp", &["bind", "idmap"]);
    let error = bundle.run().refused();
    assert!(error.starts_with("mounts[6]: map the ids of ") && error.contains("not procrt's to map"), "{error}");
}

#[test]
fn its_own_id_need_not_be_root_inside() {
    let mapping = json!([{"containerID": ID, "hostID": ID, "size": 1}]);
    let bundle = plain("id -u; id -g; touch /tmp/x; grep CapEff /proc/self/status");
    let bundle = bundle.set("/linux/uidMappings", mapping.clone()).set("/linux/gidMappings", mapping);
    let bundle = bundle.set("/process/user", json!({"uid": ID, "gid": ID})).without("/process/capabilities");
    assert_eq!(bundle.run().ok(), format!("{ID}\n{ID}\nCapEff:\t0000000000000000"));
}
