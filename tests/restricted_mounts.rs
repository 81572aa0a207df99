//! What the host has mounts restricted by, in containers whose root has a user namespace, and what mount options make of it.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use support::container::Container;
use support::{Bundle, Outcome};

/// A bundle with a user namespace, in which mounts can be changed, and places for them.
fn mapped(script: &str) -> Bundle {
    let bundle = Bundle::new(script).mapped(100_000).capabilities(&["CAP_SYS_ADMIN"]);
    for dir in ["rootfs/vol", "volume/sub"] {
        fs::create_dir_all(bundle.join(dir)).unwrap();
    }
    bundle
}

/// Mounts a tmpfs with these options on the bundle's volume, of the test's own namespace.
fn run_on(bundle: &Bundle, options: &str) -> Outcome {
    let volume = bundle.join("volume");
    let before = format!(
        "mount -t tmpfs -o mode=777 t {0}; mkdir -m 777 {0}/sub; mount -o remount,bind,{options} {0}",
        volume.display()
    );
    bundle.run_apart(&before, "true")
}

/// The attributes of /vol before and after.
const CHANGE: &str = "awk '$5 == \"/vol\" {print $6}' /proc/self/mountinfo; mount -o remount,bind,rw,suid,dev,exec /vol \
                      2>/dev/null && echo changed; awk '$5 == \"/vol\" {print $6}' /proc/self/mountinfo";

#[test]
fn a_user_namespaces_root_cannot_take_back_what_the_host_forbids() {
    for options in [&["rbind"][..], &["bind"], &["rbind", "ro", "nosuid"], &["bind", "idmap"]] {
        let bundle = mapped(CHANGE).mount("/vol", "bind", "volume", options);
        let restricted = "ro,nosuid,nodev,noexec,relatime";
        let idmapped = if options.contains(&"idmap") { ",idmapped" } else { "" };
        let outcome = run_on(&bundle, "ro,nosuid,nodev,noexec");
        assert_eq!(outcome.ok(), format!("{restricted}{idmapped}\n{restricted}{idmapped}"), "{options:?}");
    }
    // What the configuration alone restricts is the container's own.
    let bundle = mapped(CHANGE).mount("/vol", "bind", "volume", &["rbind", "ro", "nosuid"]);
    assert_eq!(run_on(&bundle, "rw").ok(), "ro,nosuid,relatime\nchanged\nrw,relatime");
    // So it is with a joined user namespace whose mounts are new.
    let owner = Container::of(Bundle::sleeping().mapped(100_000));
    let bundle = mapped(CHANGE).namespace("user", Some(&format!("/proc/{}/ns/user", owner.pid())));
    let bundle = bundle.mount("/vol", "bind", "volume", &["rbind"]);
    assert_eq!(run_on(&bundle, "ro,nodev").ok(), "ro,nodev,relatime\nro,nodev,relatime");
}

#[test]
fn options_that_a_user_namespace_may_not_have_are_refused() {
    for options in [&["rbind", "rw"][..], &["rbind", "dev"], &["rbind", "rrw"], &["rbind", "noatime"]] {
        let bundle = mapped("true").mount("/vol", "bind", "volume", options);
        let error = run_on(&bundle, "ro,nodev,relatime").refused();
        assert!(error.starts_with("mounts[6]: bind ") && error.contains("operation not permitted"), "{error}");
        bundle.assert_nothing_left();
    }
    // The same and more of it are no change that would be refused.
    let bundle = mapped("awk '$5 == \"/vol\" {print $6}' /proc/self/mountinfo");
    let bundle = bundle.mount("/vol", "bind", "volume", &["rbind", "ro", "relatime", "nosuid"]);
    assert_eq!(run_on(&bundle, "ro,nodev,relatime").ok(), "ro,nosuid,nodev,relatime");
}

#[test]
fn what_is_mounted_below_stays_above_what_it_may_hide() {
    let below = |bundle: &Bundle| {
        let sub = bundle.join("volume/sub").display().to_string();
        bundle.run_apart(&format!("echo hidden > {sub}/file; mount -t tmpfs t {sub}"), "true")
    };
    let bundle = mapped("ls /vol/sub; umount /vol/sub 2>&1; ls /vol/sub").mount("/vol", "bind", "volume", &["rbind"]);
    assert_eq!(below(&bundle).ok(), "umount: can't unmount /vol/sub: Invalid argument");
    let bundle = mapped("true").mount("/vol", "bind", "volume", &["bind"]);
    let error = below(&bundle).refused();
    let why = ": with mounts below it, it takes rbind in a user namespace: invalid argument (os error 22)";
    assert!(error.starts_with("mounts[6].source: open ") && error.ends_with(why), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn sources_that_only_the_hosts_root_may_look_at_are_mounted() {
    let bundle = mapped("cat /vol/file; cat /hidden/file 2>&1");
    let closed = bundle.join("closed");
    fs::create_dir_all(closed.join("open")).unwrap();
    fs::write(closed.join("open/file"), "text\n").unwrap();
    std::os::unix::fs::chown(&closed, Some(4242), Some(4242)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(bundle.inside("hidden")).unwrap();
    let bundle = bundle.mount("/vol", "bind", "closed/open", &["bind"]).mount("/hidden", "bind", "closed", &["bind"]);
    assert_eq!(bundle.run().stdout, "text\ncat: can't open '/hidden/file': Permission denied\n");
    let missing = bundle.mount("/vol", "bind", "closed/none", &["bind"]);
    let error = missing.create().refused();
    assert!(error.starts_with("mounts[8].source: open ") && error.contains("no such file"), "{error}");
    missing.assert_nothing_left();
}

#[test]
fn there_can_be_more_mounts_than_fit_into_a_message() {
    let mut bundle = mapped("grep -c ' /vol/' /proc/self/mountinfo; cat /vol/599");
    fs::write(bundle.join("source"), "text\n").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/vol", "type": "tmpfs", "source": "tmpfs"}));
    for number in 0..600 {
        mounts.push(json!({"destination": format!("/vol/{number}"), "source": "source", "options": ["bind"]}));
    }
    assert_eq!(bundle.run().ok(), "600\ntext");
}
