//! Mounts in their order and with their propagation, as the container's own list of mounts has them.

mod support;

use serde_json::json;
use support::Bundle;

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
