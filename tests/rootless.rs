//! Containers of a plain user: one without any privilege, whose own id is root inside.

mod support;

use std::fs;

use serde_json::json;
use support::container::Container;
use support::plain::{ID, User};
use support::{Bundle, Outcome};

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
