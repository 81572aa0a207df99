//! SELinux labels, seen from inside and from the host, on a kernel that has SELinux and no policy yet: the tests load one.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;
use support::container::Container;
use support::{Bundle, skipped};

const CONTAINER: &str = "u:r:container_t";
const OTHER: &str = "u:r:other_t";
const MOUNTS: &str = "u:object_r:mount_t";
const SECRET: &str = "u:object_r:secret_t";

/// Whether the tests' policy is in force; says why not.
fn enforcing() -> bool {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(load);
    if let Err(why) = done {
        skipped(why);
    }
    done.is_ok()
}

fn load() -> Result<(), String> {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap();
    if !filesystems.lines().any(|line| line.ends_with("\tselinuxfs")) {
        return Err("this kernel has no SELinux at work (kernel parameter security=selinux)".into());
    }
    let current = fs::read_to_string("/proc/self/attr/current").unwrap();
    if current.trim_end_matches(['\0', '\n']) != "kernel" {
        return Err("this machine has an SELinux policy of its own".into());
    }
    let directory = tempfile::tempdir().unwrap();
    let (text, binary) = (directory.path().join("policy.conf"), directory.path().join("policy"));
    fs::write(&text, include_str!("selinux/policy.conf")).unwrap();
    let mut compiler = Command::new("checkpolicy");
    compiler.args(["-c", "33", "-U", "allow", "-o"]).args([&binary, &text]);
    let Ok(output) = compiler.output() else {
        return Err("there is no checkpolicy".into());
    };
    assert!(output.status.success(), "{output:?}");
    if !Path::new("/sys/fs/selinux/load").exists() {
        let mounted = Command::new("mount").args(["-t", "selinuxfs", "selinuxfs", "/sys/fs/selinux"]).status();
        assert!(mounted.unwrap().success());
    }
    fs::write("/sys/fs/selinux/load", fs::read(&binary).unwrap()).unwrap();
    fs::write("/sys/fs/selinux/enforce", "1").unwrap();
    Ok(())
}

/// A bundle with a directory that processes of [`CONTAINER`] may not look into.
fn with_secret(bundle: Bundle) -> Bundle {
    bundle.mount("/secret", "tmpfs", "tmpfs", &[&format!("context={SECRET}")])
}

/// Prints the label, and tries what it forbids.
const TRY: &str = "tr '\\0' '\\n' < /proc/self/attr/current; ls /secret 2>&1 && echo listed; true";

const DENIED: &str = "ls: /secret: Permission denied";

#[test]
fn a_process_has_its_label() {
    if !enforcing() {
        return;
    }
    for mapped in [false, true] {
        for nothing_new in [false, true] {
            let bundle = with_secret(Bundle::new(TRY)).set("/process/selinuxLabel", json!(CONTAINER));
            let bundle = bundle.set("/process/noNewPrivileges", json!(nothing_new));
            let bundle = if mapped { bundle.mapped(100_000) } else { bundle };
            if mapped {
                fs::create_dir(bundle.inside("secret")).unwrap();
            }
            assert_eq!(bundle.run().ok(), format!("{CONTAINER}\n{DENIED}"), "mapped: {mapped}, {nothing_new}");
        }
    }
    let outcome = with_secret(Bundle::new(TRY)).run();
    assert_eq!(outcome.ok(), "u:r:kernel_t\nlisted");
}

#[test]
fn a_process_that_joins_has_the_containers_label_or_another() {
    if !enforcing() {
        return;
    }
    let bundle = with_secret(Bundle::sleeping()).set("/process/selinuxLabel", json!(CONTAINER));
    let container = Container::of(bundle);
    assert_eq!(container.sh(&[], TRY), format!("{CONTAINER}\n{DENIED}"));
    assert_eq!(container.sh(&["--process-label", OTHER], TRY), format!("{OTHER}\n{DENIED}"));
    let file = container.process_file(&json!({"args": ["sh", "-c", TRY], "selinuxLabel": OTHER}));
    assert_eq!(container.exec_with(&["--process", &file], &[]).ok(), format!("{OTHER}\n{DENIED}"));
    // What is for keys that are made on the way is not left to the program.
    let text = container.sh(&[], "cat /proc/self/attr/keycreate /proc/self/attr/exec | wc -c");
    assert_eq!(text, "0");
}

/// Who may not view a key is not even told of it.
#[test]
fn the_session_keyring_has_the_processs_label() {
    if !enforcing() {
        return;
    }
    if !Path::new("/proc/keys").exists() {
        return skipped("this kernel has no /proc/keys");
    }
    let name = |bundle: &Bundle| format!("_ses.{}", bundle.id());
    let container = Container::of(Bundle::sleeping().set("/process/selinuxLabel", json!(CONTAINER)));
    for options in [&[][..], &["--process-label", OTHER]] {
        let text = container.sh(options, "cat /proc/keys");
        assert!(text.contains(&name(&container)), "{options:?}: {text}");
    }
}

#[test]
fn the_containers_file_systems_have_the_mount_label() {
    if !enforcing() {
        return;
    }
    let script = "cat /proc/self/mountinfo; echo ready > /tmp/ready; sleep 1000";
    for mapped in [false, true] {
        let bundle = with_secret(Bundle::new(script)).set("/linux/mountLabel", json!(MOUNTS));
        fs::create_dir(bundle.inside("secret")).unwrap();
        fs::create_dir(bundle.inside("hidden")).unwrap();
        let bundle = bundle.set("/linux/maskedPaths", json!(["/hidden"]));
        let bundle = if mapped { bundle.mapped(100_000).without_mount("/dev/mqueue") } else { bundle };
        let container = Container::of(bundle);
        container.wait_for_file("tmp/ready");
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
        let of = |place: &str| {
            let line = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(place)).unwrap();
            line.split_once("context=").map(|(_, rest)| rest.split(',').next().unwrap().trim_matches('"').to_owned())
        };
        for place in ["/dev", "/dev/pts", "/dev/shm", "/hidden"] {
            assert_eq!(of(place).as_deref(), Some(MOUNTS), "{place}: {mounts}");
        }
        assert_eq!(of("/secret").as_deref(), Some(SECRET), "{mounts}");
        for place in ["/", "/proc", "/sys"] {
            assert_eq!(of(place), None, "{place}: {mounts}");
        }
        if !mapped {
            let queues = format!("/proc/{}/root/dev/mqueue", container.pid());
            let listed = Command::new("ls").args(["-Zd", &queues]).output().unwrap();
            assert!(String::from_utf8_lossy(&listed.stdout).trim().starts_with(MOUNTS), "{listed:?}");
        }
    }
}

#[test]
fn a_mount_label_can_forbid_what_a_process_label_may_not() {
    if !enforcing() {
        return;
    }
    let bundle = Bundle::new("ls /shm 2>&1; true").without_mount("/dev/mqueue").mount("/shm", "tmpfs", "tmpfs", &[]);
    let bundle = bundle.set("/process/selinuxLabel", json!(CONTAINER));
    let open = bundle.set("/linux/mountLabel", json!(MOUNTS));
    assert_eq!(open.run().ok(), "");
    let closed = open.set("/linux/mountLabel", json!(SECRET));
    assert_eq!(closed.run().ok(), "ls: /shm: Permission denied");
}

#[test]
fn a_label_that_the_policy_does_not_know_is_named_before_anything_is_made() {
    if !enforcing() {
        return;
    }
    let why = "\"u:r:no_such_t\": SELinux's policy knows no such label: invalid argument (os error 22)";
    for (field, pointer) in
        [("process.selinuxLabel", "/process/selinuxLabel"), ("linux.mountLabel", "/linux/mountLabel")]
    {
        let bundle = Bundle::sleeping().set(pointer, json!("u:r:no_such_t"));
        assert_eq!(bundle.create().refused(), format!("{field}: {why}"));
        bundle.assert_nothing_left();
    }
    let container = Container::sleeping();
    let error = container.exec_with(&["--process-label", "u:r:no_such_t"], &["true"]).not_done();
    assert_eq!(error, format!("--process-label: {why}"));
}
