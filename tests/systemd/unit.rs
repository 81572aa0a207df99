//! The unit's name and its slice, and what is there of that name already.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Bundle, Outcome, wait_until};
use crate::{Scope, cgroup_of, property, systemctl, systemd};

#[test]
fn a_slice_named_with_dashes_is_in_the_slices_above() {
    if !systemd() {
        return;
    }
    let top = format!("t{}", std::process::id());
    let bundle = Bundle::sleeping();
    let path = format!("{top}-a-b.slice:procrt:{}", bundle.id());
    let scope = Scope(bundle.set("/linux/cgroupsPath", json!(path)));
    scope.create().ok();
    let expected = format!("0::/{top}.slice/{top}-a.slice/{top}-a-b.slice/{}", scope.unit());
    assert_eq!(cgroup_of(scope.pid()), expected);
    assert_eq!(property(&scope.unit(), "Slice"), format!("{top}-a-b.slice"));
    scope.delete(&["--force"]).ok();
    systemctl(&["stop", &format!("{top}.slice")]).ok();
}

#[test]
fn what_systemd_refuses_is_the_error_and_nothing_is_left() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::sleeping().set("/annotations", json!({"org.systemd.property.NoSuchThing": "true"})));
    let error = scope.create().refused();
    assert!(error.starts_with("have systemd start ") && error.contains("NoSuchThing"), "{error}");
    assert!(scope.leftovers().is_empty());
}

#[test]
fn what_is_wrong_is_found_before_anything_is_made() {
    if !systemd() {
        return;
    }
    for (pointer, value, why) in [
        ("/linux/cgroupsPath", "/a/b", "is not of systemd's form"),
        ("/linux/cgroupsPath", "a/b.slice:p:n", "slash"),
        ("/linux/cgroupsPath", "a--b.slice:p:n", "dash"),
        ("/linux/cgroupsPath", "a:p:n", "does not end with \".slice\""),
        ("/linux/cgroupsPath", "..:p:n", "dot"),
        ("/annotations/org.systemd.property.CollectMode", "inactive", "a string has quotes"),
        ("/annotations/org.systemd.property.PIDs", "@au [1]", "linux.cgroupsPath"),
    ] {
        let scope = Scope(Bundle::sleeping().set(pointer, json!(value)));
        let error = scope.create().refused();
        let field = pointer.trim_start_matches('/').split('/').next().unwrap();
        assert!(error.starts_with(field) && error.contains(why), "{value}: {error}");
    }
    let bundle = Bundle::sleeping().set("/linux/cgroupsPath", json!("a.slice:p:n"));
    assert!(bundle.create().refused().contains("--systemd-cgroup"));
}

#[test]
fn a_unit_of_that_name_is_left_alone() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::sleeping());
    let unit = scope.unit();
    let mut holder = Command::new("systemd-run")
        .args(["--quiet", "--scope", "--unit", &unit, "sleep", "1000"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the unit", || property(&unit, "ActiveState") == "active");
    let error = scope.create().refused();
    assert!(error.contains("there is a unit of that name"), "{error}");
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert!(holder.try_wait().unwrap().is_none());
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until("the unit's end", || property(&unit, "LoadState") == "not-found");
}

#[test]
fn what_is_left_of_a_unit_that_failed_is_replaced() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::sleeping());
    let unit = scope.unit();
    let args = ["--quiet", "--scope", "--property", "RuntimeMaxSec=100ms", "--unit", &unit, "sleep", "1000"];
    Outcome::of(Command::new("systemd-run").args(args).stdin(Stdio::null()));
    wait_until("the failure", || property(&unit, "ActiveState") == "failed");
    scope.create().ok();
    assert_eq!(property(&unit, "ActiveState"), "active");
    scope.delete(&["--force"]).ok();
}

#[test]
fn a_create_that_is_killed_leaves_what_delete_can_remove() {
    if !systemd() {
        return;
    }
    let scope = Scope(Bundle::sleeping());
    scope.write();
    for micros in (0..30_000).step_by(3_000) {
        let args = ["--systemd-cgroup", "create", "--bundle", scope.path().to_str().unwrap(), scope.id()];
        let mut child = scope.command(&args).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(micros));
        let _ = child.kill();
        child.wait().unwrap();
        scope.call(&["delete", "--force", scope.id()]).ok();
        wait_until("the unit's end", || property(&scope.unit(), "LoadState") == "not-found");
        assert!(scope.leftovers().is_empty());
    }
}
