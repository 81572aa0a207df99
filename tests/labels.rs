//! AppArmor profiles and SELinux labels, seen from inside where the kernel has them, and what is done where it has not.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use support::container::Container;
use support::{Bundle, skipped};

const PROFILE: &str = "process.apparmorProfile";
const LABEL: &str = "process.selinuxLabel";
const MOUNTS: &str = "linux.mountLabel";

fn has_apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
}

fn has_selinux() -> bool {
    // Without a policy it is not at work.
    let current = fs::read("/proc/self/attr/current").unwrap_or_default();
    Path::new("/sys/fs/selinux/status").exists() && !current.starts_with(b"kernel\0")
}

/// A profile that is loaded until it is dropped: what it confines may do all but read /secret.
struct Profile(String);

impl Profile {
    /// None where there is nothing to load it, which is then said.
    fn load(name: &str) -> Option<Self> {
        if !has_apparmor() {
            skipped("this kernel has no AppArmor at work");
            return None;
        }
        let profile = Self(format!("procrt-test-{}-{name}", std::process::id()));
        profile.parse("--replace").map(|()| profile)
    }

    fn parse(&self, action: &str) -> Option<()> {
        let mut parser = Command::new("apparmor_parser");
        parser.args([action, "--skip-cache", "--quiet"]).stdin(Stdio::piped());
        let Ok(mut parser) = parser.spawn() else {
            skipped("there is no apparmor_parser");
            return None;
        };
        let rules = "file, capability, network, mount, umount, signal, ptrace, unix, deny /secret r,";
        let text = format!("profile {} flags=(attach_disconnected,mediate_deleted) {{ {rules} }}\n", self.0);
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success(), "apparmor_parser {action}: {text}");
        Some(())
    }

    /// As a process's own attribute has it.
    fn enforced(&self) -> String {
        format!("{} (enforce)", self.0)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parse("--remove");
    }
}

/// Prints the profile, and tries what it forbids.
const TRY: &str = "cat /proc/self/attr/current; cat /secret 2>&1";

fn with_secret(bundle: Bundle) -> Bundle {
    fs::write(bundle.inside("secret"), "told\n").unwrap();
    bundle
}

#[test]
fn an_apparmor_profile_confines_the_program() {
    let Some(profile) = Profile::load("plain") else { return };
    let confined = format!("{}\ncat: can't open '/secret': Permission denied", profile.enforced());
    for nothing_new in [false, true] {
        for mapped in [false, true] {
            let bundle = with_secret(Bundle::new(&format!("{TRY}; true")));
            let bundle = if mapped { bundle.mapped(100_000) } else { bundle };
            let bundle = bundle.set("/process/noNewPrivileges", json!(nothing_new));
            let bundle = bundle.set("/process/apparmorProfile", json!(profile.0));
            assert_eq!(bundle.run().ok(), confined, "no new privileges: {nothing_new}, mapped: {mapped}");
        }
    }
    // Without it, or with the profile that confines nothing.
    for free in ["", "unconfined"] {
        let bundle = with_secret(Bundle::new(TRY)).set("/process/apparmorProfile", json!(free));
        assert_eq!(bundle.run().ok(), "unconfined\ntold", "{free:?}");
    }
}

#[test]
fn a_process_that_joins_has_the_containers_profile_or_another() {
    let Some(profile) = Profile::load("own") else { return };
    let Some(other) = Profile::load("other") else { return };
    let bundle = with_secret(Bundle::sleeping()).set("/process/apparmorProfile", json!(profile.0));
    let container = Container::of(bundle.set("/process/noNewPrivileges", json!(true)));
    let denied = "cat: can't open '/secret': Permission denied";
    let script = format!("{TRY}; true");
    assert_eq!(container.sh(&[], &script), format!("{}\n{denied}", profile.enforced()));
    assert_eq!(container.sh(&["--apparmor", &other.0], &script), format!("{}\n{denied}", other.enforced()));
    assert_eq!(container.sh(&["--apparmor", "unconfined"], &script), "unconfined\ntold");
    let file = container.process_file(&json!({"args": ["sh", "-c", script], "apparmorProfile": other.0}));
    assert_eq!(container.exec_with(&["--process", &file], &[]).ok(), format!("{}\n{denied}", other.enforced()));
}

#[test]
fn a_profile_that_is_not_loaded_is_named_before_anything_is_made() {
    if !has_apparmor() {
        return skipped("this kernel has no AppArmor at work");
    }
    let expected = "\"no-such\": no profile of that name is loaded: no such file or directory (os error 2)";
    let bundle = Bundle::sleeping().set("/process/apparmorProfile", json!("no-such"));
    for options in [&[][..], &["--missing-lsm", "warn"]] {
        bundle.write();
        let path = bundle.path().to_str().unwrap().to_owned();
        let outcome = bundle.call(&[options, &["create", "--bundle", &path, bundle.id()]].concat());
        assert_eq!(outcome.refused(), format!("{PROFILE}: {expected}"), "{options:?}");
        bundle.assert_nothing_left();
    }
    let container = Container::sleeping();
    let error = container.exec_with(&["--apparmor", "no-such"], &["true"]).not_done();
    assert_eq!(error, format!("--apparmor: {expected}"));
}

/// A label of each kind whose module this kernel does not have.
fn missing() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let mut missing = Vec::new();
    if !has_apparmor() {
        missing.push((PROFILE, "/process/apparmorProfile", "acme_secure_profile", "AppArmor"));
    }
    if !has_selinux() {
        missing.push((LABEL, "/process/selinuxLabel", "system_u:system_r:svirt_lxc_net_t:s0:c1,c2", "SELinux"));
        missing.push((MOUNTS, "/linux/mountLabel", "system_u:object_r:svirt_sandbox_file_t:s0:c1,c2", "SELinux"));
    }
    assert!(!missing.is_empty());
    missing
}

#[test]
fn a_label_is_refused_where_its_module_is_not_at_work() {
    for (field, pointer, label, module) in missing() {
        let bundle = Bundle::sleeping().set(pointer, json!(label));
        let error = bundle.create().refused();
        let expected =
            format!("{field}: {label:?}: this kernel has no {module} at work (--missing-lsm warn does without)");
        assert_eq!(error, expected);
        bundle.assert_nothing_left();
    }
    let container = Container::sleeping();
    for (option, module, there) in
        [("--apparmor", "AppArmor", has_apparmor()), ("--process-label", "SELinux", has_selinux())]
    {
        if !there {
            let error = container.exec_with(&[option, "some_label"], &["true"]).not_done();
            let expected = format!(
                "{option}: \"some_label\": this kernel has no {module} at work (--missing-lsm warn does without)"
            );
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn a_label_is_left_out_with_a_warning_if_that_is_asked_for() {
    for (field, pointer, label, module) in missing() {
        let bundle = Bundle::new("echo ran").set(pointer, json!(label));
        bundle.write();
        let path = bundle.path().to_str().unwrap().to_owned();
        let outcome = bundle.call(&["--missing-lsm", "warn", "run", "--bundle", &path, bundle.id()]);
        let warning = format!("{field}: {label:?}: this kernel has no {module} at work, and it is left out");
        assert!(outcome.stderr.contains(&warning), "{outcome:?}");
        assert_eq!(outcome.ok(), "ran");
        // It is said on the log too, where callers look.
        let log = bundle.join("log");
        let log = log.to_str().unwrap();
        let options = ["--missing-lsm", "warn", "--log", log, "--log-format", "json"];
        bundle.call(&[&options[..], &["run", "--bundle", &path, bundle.id()]].concat()).ok();
        let text = fs::read_to_string(log).unwrap();
        assert!(text.contains("\"level\":\"warning\"") && text.contains(field), "{text}");
    }
    let container = Container::sleeping();
    for (option, there) in [("--apparmor", has_apparmor()), ("--process-label", has_selinux())] {
        if !there {
            let call = ["--missing-lsm=warn", "exec", option, "some_label", container.id(), "echo", "ran"];
            let outcome = container.call(&call);
            assert!(outcome.stderr.contains(&format!("{option}: \"some_label\": ")), "{outcome:?}");
            assert_eq!(outcome.ok(), "ran");
        }
    }
    let error = container.call(&["--missing-lsm", "ignore", "list"]).refused();
    assert!(error.contains("[possible values: error, warn]"), "{error}");
}
