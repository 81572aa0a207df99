//! Mounts in their order and with their propagation, as the container's own list of mounts has them.

mod support;

use std::process::{Command, Stdio};

use serde_json::json;
use support::{Bundle, Outcome};

/// The mount points below /mnt, and whether `/` is shared, as /proc/self/mountinfo says.
const LIST: &str =
    "awk '$5 ~ \"^/mnt/\" || $5 == \"/\" {print $5, ($7 ~ /shared/) ? \"shared\" : \"-\"}' /proc/self/mountinfo";

#[test]
fn mounts_are_listed_in_the_order_of_the_configuration() {
    let bundle = Bundle::new(LIST)
        .mount("/mnt/a", "tmpfs", "tmpfs", &[])
        .mount("/mnt/b", "none", "/etc", &["bind", "shared"])
        .mount("/mnt/c", "tmpfs", "tmpfs", &[])
        .mount("/mnt/d", "none", "/etc", &["rbind", "ro"]);
    assert_eq!(
        bundle.run().ok().lines().skip(1).collect::<Vec<_>>(),
        ["/mnt/a -", "/mnt/b shared", "/mnt/c -", "/mnt/d -"]
    );
}

#[test]
fn a_root_can_be_shared() {
    for propagation in ["shared", "rshared"] {
        let bundle = Bundle::new(LIST).set("/linux/rootfsPropagation", json!(propagation));
        assert_eq!(bundle.run().ok(), "/ shared", "{propagation}");
    }
}

#[test]
fn a_source_that_is_not_there_is_named_and_undone() {
    let bundle = Bundle::new("true").mount("/mnt/a", "none", "/not/there", &["bind"]);
    assert_eq!(bundle.run().refused(), "mounts[6].source: open \"/not/there\": no such file or directory (os error 2)");
}

#[test]
fn parameters_of_a_file_system_on_a_bind_mount_are_warned_of() {
    let bundle = Bundle::new("echo made").mount("/mnt/a", "none", "/etc", &["bind", "mode=755"]);
    let outcome = bundle.run();
    assert!(outcome.stderr.contains("mounts[6].options: \"mode\" has no effect on a bind mount"), "{outcome:?}");
    assert_eq!(outcome.ok(), "made");
}

/// Runs the bundle where its root is a mount of its own that is shared with the test's, with a mount below it. When the
/// container is created, `on_host` is done on the host's side of it.
fn run_on_shared_mounts(bundle: &Bundle, on_host: &str) -> Outcome {
    bundle.write();
    std::fs::create_dir_all(bundle.inside("mnt/below")).unwrap();
    let script = format!(
        "cd /; root=$1; shift; mount --bind $root $root && mount --make-shared $root &&
        mount -t tmpfs below $root/mnt/below && \"$@\" create --bundle ${{root%/rootfs}} {id} >/dev/null &&
        {{ {on_host}; }} && \"$@\" start {id} && while test ! -e $root/done; do sleep 0.01; done; \"$@\" delete --force {id}",
        id = bundle.id()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(bundle.join("rootfs"));
    Outcome::of(command.arg(support::PROCRT).arg("--root").arg(bundle.store()).stdin(Stdio::null()))
}

#[test]
fn every_propagation_of_the_root_is_the_configurations() {
    // What the host's side mounts in the root while the container is there.
    let late = "mkdir -p $root/mnt/late && mount -t tmpfs late $root/mnt/late";
    for (propagation, root, below, spreads) in [
        ("", "master", "master", true),
        ("slave", "master", "master", true),
        ("rslave", "master", "master", true),
        ("private", "-", "-", false),
        ("rprivate", "-", "-", false),
        ("shared", "shared", "shared", false),
        ("rshared", "shared", "shared", false),
        ("unbindable", "unbindable", "master", false),
        ("runbindable", "unbindable", "unbindable", false),
    ] {
        let script = "awk '$5 == \"/\" || $5 ~ \"^/mnt\" {print $5, $7}' /proc/self/mountinfo > /out; touch /done";
        let bundle = Bundle::new(script).set("/linux/rootfsPropagation", json!(propagation));
        run_on_shared_mounts(&bundle, late).ok();
        let seen = std::fs::read_to_string(bundle.inside("out")).unwrap();
        let lines: Vec<&str> = seen.lines().map(|line| line.split(':').next().unwrap()).collect();
        let mut expected = vec![format!("/ {root}"), format!("/mnt/below {below}")];
        expected.extend(spreads.then(|| "/mnt/late master".to_owned()));
        assert_eq!(lines, expected, "{propagation:?}");
    }
    let error = Bundle::sleeping().set("/linux/rootfsPropagation", json!("loose")).create().refused();
    assert!(error.starts_with("linux.rootfsPropagation: \"loose\" is not a propagation type"), "{error}");
}
