//! Bind mounts whose ids are mapped, seen from inside the container and from the host.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::container::Container;
use support::{Bundle, skipped};

/// A list of mappings.
fn map(lines: &[(u32, u32, u32)]) -> Value {
    lines
        .iter()
        .map(|(inside, outside, size)| json!({"containerID": inside, "hostID": outside, "size": size}))
        .collect()
}

/// The bundle with a mount of the directory `volume` on /vol, with the same mappings for users and groups.
fn with(bundle: Bundle, options: &[&str], lines: &[(u32, u32, u32)]) -> Bundle {
    // A user namespace's root makes no directories in a root that is not its own.
    fs::create_dir_all(bundle.inside("vol")).unwrap();
    let source = bundle.join("volume");
    if !source.exists() {
        fs::create_dir(&source).unwrap();
        for (name, id) in [("root", 0), ("first", 1), ("user", 1000), ("other", 4000)] {
            fs::write(source.join(name), "").unwrap();
            chown(source.join(name), Some(id), Some(id)).unwrap();
        }
    }
    let mut mount = json!({"destination": "/vol", "type": "bind", "source": "volume", "options": options});
    if !lines.is_empty() {
        mount["uidMappings"] = map(lines);
        mount["gidMappings"] = map(lines);
    }
    bundle.set("/mounts/-", mount)
}

/// Whose files those of /vol are.
const LIST: &str = "cd /vol; stat -c '%n %u %g' first other root user";

fn owner(path: &Path) -> (u32, u32) {
    let file = fs::metadata(path).unwrap();
    (file.uid(), file.gid())
}

#[test]
fn ids_are_mapped_by_the_mounts_own_mappings() {
    let mapped = |script: &str| with(Bundle::new(script), &["bind", "idmap"], &[(0, 5000, 10), (1000, 7, 1)]);
    let expected = "first 5001 5001\nother 65534 65534\nroot 5000 5000\nuser 7 7\nnew 5000 5001";
    let bundle = mapped(&format!("{LIST}; touch new; stat -c '%n %u %g' new"));
    let bundle = bundle.set("/process/user", json!({"uid": 5000, "gid": 5001}));
    assert_eq!(bundle.run().ok(), expected);
    assert_eq!(owner(&bundle.join("volume/new")), (0, 1));
    // What has no place on the file system cannot be made.
    let outcome = mapped("touch /vol/by-root").run();
    assert!(outcome.stderr.contains("Value too large for defined data type"), "{outcome:?}");
    // The owner can be changed to one that has.
    let bundle = mapped("chown 7:5009 /vol/first");
    bundle.run().ok();
    assert_eq!(owner(&bundle.join("volume/first")), (1000, 9));
}

#[test]
fn in_a_user_namespace_ids_are_mapped_as_its_own_or_otherwise() {
    let as_root = "first 1 1\nother 4000 4000\nroot 0 0\nuser 1000 1000\nnew 0 0";
    for (options, lines, expected, on_disk) in [
        // The same as the container's, given or left out.
        (&["rbind", "idmap"][..], &[(0, 100_000, 65536)][..], as_root, 0),
        (&["bind", "idmap"], &[], as_root, 0),
        (&["rbind", "ridmap"], &[], as_root, 0),
        // The option can be left out.
        (&["bind"], &[(0, 100_000, 65536)], as_root, 0),
        // Another.
        (
            &["bind", "idmap"],
            &[(1000, 100_000, 1), (4000, 100_007, 1)],
            "first 65534 65534\nother 7 7\nroot 65534 65534\nuser 0 0\nnew 0 0",
            1000,
        ),
        // None: nothing of the host's is mapped into the container.
        (
            &["bind", "rw"],
            &[],
            "first 65534 65534\nother 65534 65534\nroot 65534 65534\nuser 65534 65534\nnew 0 0",
            100_000,
        ),
    ] {
        let script = format!("{LIST}; touch new; stat -c '%n %u %g' new");
        let bundle = with(Bundle::new(&script).mapped(100_000), options, lines);
        // Only in a directory whose owner has a place can anything be made.
        chown(bundle.join("volume"), Some(on_disk), Some(on_disk)).unwrap();
        assert_eq!(bundle.run().ok(), expected, "{options:?} {lines:?}");
        assert_eq!(owner(&bundle.join("volume/new")), (on_disk, on_disk), "{options:?} {lines:?}");
    }
}

#[test]
fn mounts_of_a_container_can_have_different_ids() {
    let bundle = Bundle::new("stat -c '%n %u' /vol/root /two/root /three/root /plain/root").mapped(100_000);
    let mut bundle = with(bundle, &["bind", "idmap"], &[]);
    let root = bundle.inside("");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    for (destination, outside) in [("/two", 100_002), ("/three", 100_003), ("/plain", 0)] {
        let mut mount = json!({"destination": destination, "source": "volume", "options": ["bind"]});
        if outside != 0 {
            mount["uidMappings"] = map(&[(0, outside, 1)]);
            mount["gidMappings"] = map(&[(0, outside, 1)]);
        }
        fs::create_dir(root.join(&destination[1..])).unwrap();
        mounts.push(mount);
    }
    assert_eq!(bundle.run().ok(), "/vol/root 0\n/two/root 2\n/three/root 3\n/plain/root 65534");
}

#[test]
fn users_and_groups_are_mapped_apart() {
    let bundle = with(Bundle::new("stat -c '%u %g' /vol/root /vol/user"), &["bind", "idmap"], &[(0, 5000, 1)]);
    let index = bundle.config["mounts"].as_array().unwrap().len() - 1;
    let bundle = bundle.set(&format!("/mounts/{index}/gidMappings"), map(&[(0, 6000, 1), (1000, 6001, 1)]));
    assert_eq!(bundle.run().ok(), "5000 6000\n65534 6001");
}

#[test]
fn a_joined_user_namespaces_mapping_is_taken() {
    let holder = Container::of(Bundle::sleeping().mapped(300_000));
    let bundle = Bundle::new(LIST).namespace("user", Some(&format!("/proc/{}/ns/user", holder.pid())));
    let bundle = with(bundle, &["bind", "idmap"], &[]);
    assert_eq!(bundle.run().ok(), "first 1 1\nother 4000 4000\nroot 0 0\nuser 1000 1000");
}

#[test]
fn a_process_that_joins_sees_the_same_ids() {
    for bundle in [Bundle::sleeping().mapped(100_000), Bundle::sleeping()] {
        let container = Container::of(with(bundle, &["bind", "idmap"], &[(0, 100_000, 1), (1000, 100_005, 1)]));
        let shift = if container.config["linux"]["uidMappings"].is_null() { 100_000 } else { 0 };
        let expected = format!("{} {}", shift, shift + 5);
        assert_eq!(container.sh(&[], "echo $(stat -c %u /vol/root /vol/user)"), expected);
        if shift == 0 {
            container.sh(&["--user", "5"], "test -O /vol/user && chmod 700 /vol/user");
        }
    }
}

#[test]
fn other_options_hold_too() {
    let script = "grep ' /vol ' /proc/self/mountinfo; touch /vol/x";
    for bundle in [Bundle::new(script), Bundle::new(script).mapped(100_000)] {
        let bundle =
            with(bundle, &["rbind", "ridmap", "ro", "nosuid", "nodev", "noexec", "rprivate"], &[(0, 100_000, 1)]);
        let outcome = bundle.run();
        assert!(outcome.stdout.contains(" ro,nosuid,nodev,noexec,relatime,idmapped - "), "{outcome:?}");
        assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    }
}

#[test]
fn mounts_below_are_mapped_if_asked_for() {
    let script = "stat -c '%n %u' /vol /vol/sub";
    for (options, below) in [(&["rbind", "idmap"][..], 0), (&["rbind", "ridmap"], 100_000)] {
        let bundle = with(Bundle::new(script), options, &[(0, 100_000, 1)]);
        let sub = bundle.join("volume/sub");
        fs::create_dir(&sub).unwrap();
        let before = format!("mount -t tmpfs sub {}", sub.display());
        assert_eq!(bundle.run_apart(&before, "true").ok(), format!("/vol 100000\n/vol/sub {below}"), "{options:?}");
    }
}

/// With the mounts of the host shared into the container, they are opened at other times.
#[test]
fn ids_are_mapped_whatever_the_roots_propagation() {
    for propagation in ["rshared", "rslave", "rprivate"] {
        let script = "stat -c %u /vol/root; grep -o ' /vol .*shared:' /proc/self/mountinfo | wc -l";
        let bundle = with(Bundle::new(script), &["bind", "idmap"], &[(0, 5000, 1)])
            .set("/linux/rootfsPropagation", json!(propagation));
        let shared = usize::from(propagation == "rshared");
        let before = format!("mount --bind {0} {0}; mount --make-shared {0}", bundle.path().display());
        assert_eq!(bundle.run_apart(&before, "true").ok(), format!("5000\n{shared}"), "{propagation}");
    }
}

#[test]
fn file_systems_that_map_ids_are_seen_to() {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    for (kind, size) in [("tmpfs", 0), ("ext4", 16), ("xfs", 320), ("btrfs", 128)] {
        let make = format!("mkfs.{kind}");
        if !known.lines().any(|line| line.ends_with(&format!("\t{kind}"))) {
            skipped(&format!("this kernel has no {kind}"));
            continue;
        }
        if size > 0 && !Command::new(&make).arg("-V").output().is_ok_and(|output| output.status.success()) {
            skipped(&format!("there is no {make}"));
            continue;
        }
        for bundle in [Bundle::new(LIST).mapped(100_000), Bundle::new(LIST)] {
            let bundle = with(bundle, &["bind", "idmap"], &[(0, 100_000, 1001)]);
            let (volume, image) =
                (bundle.join("volume").display().to_string(), bundle.join("image").display().to_string());
            let mount = match size {
                0 => format!("mount -t tmpfs t {volume}"),
                _ => {
                    // mount(8) would keep the device open for writing, which some kernels take for a reason to refuse.
                    format!(
                        "truncate -s {size}M {image}; {make} -q {image} >/dev/null; \
                         loop=$(losetup --find --show {image}); mount $loop {volume}; losetup --detach $loop"
                    )
                }
            };
            let before = format!(
                "{mount}; cd {volume}; touch root first user other; chown 1:1 first; \
                                  chown 1000:1000 user; chown 4000:4000 other; chmod 777 ."
            );
            let by = if bundle.config["linux"]["uidMappings"].is_null() { 100_000 } else { 0 };
            let (first, user) = (by + 1, by + 1000);
            let expected = format!("first {first} {first}\nother 65534 65534\nroot {by} {by}\nuser {user} {user}");
            let outcome = bundle.run_apart(&before, "cd /");
            assert_eq!(outcome.ok(), expected, "{kind}");
        }
    }
}

#[test]
fn a_file_system_that_cannot_be_mapped_is_named() {
    let first = Bundle::sleeping().config["mounts"].as_array().unwrap().len();
    for bundle in [Bundle::sleeping(), Bundle::sleeping().mapped(100_000)] {
        let mut bundle = with(bundle, &["bind", "idmap"], &[(0, 100_000, 65536)]);
        bundle.config["mounts"][first]["source"] = json!("/proc/sys");
        let error = bundle.create().refused();
        let expected = format!(
            "mounts[{first}]: map the ids of \"/proc/sys\" for \"/vol\": its file system, \"proc\", does not support \
             that: invalid argument (os error 22)"
        );
        assert_eq!(error, expected);
        bundle.assert_nothing_left();
    }
    // One of several.
    let bundle = with(Bundle::sleeping(), &["rbind", "ridmap"], &[(0, 100_000, 1)]);
    let sub = bundle.join("volume/sub");
    fs::create_dir(&sub).unwrap();
    let outcome = bundle.run_apart(&format!("mount -t proc sub {}", sub.display()), "true");
    let error = outcome.refused();
    assert!(error.contains(": one of its file systems (") && error.contains("\"proc\""), "{error}");
}

/// Overlayfs takes layers whose ids are mapped, and of itself none, up to now.
#[test]
fn an_overlay_is_mapped_or_named() {
    for bundle in [Bundle::new(LIST).mapped(100_000), Bundle::new(LIST)] {
        let by = if bundle.config["linux"]["uidMappings"].is_null() { 100_000 } else { 0 };
        let bundle = with(bundle, &["bind", "idmap"], &[(0, 100_000, 5000)]);
        let (volume, layers) =
            (bundle.join("volume").display().to_string(), bundle.join("layers").display().to_string());
        let before = format!(
            "mkdir {layers}; mount -t tmpfs t {layers}; mkdir {layers}/upper {layers}/work; \
             mount -t overlay -o lowerdir={volume},upperdir={layers}/upper,workdir={layers}/work o {volume}"
        );
        let outcome = bundle.run_apart(&before, "true");
        if outcome.code() == 0 {
            assert_eq!(outcome.ok().lines().nth(2), Some(format!("root {by} {by}").as_str()));
            continue;
        }
        if !outcome.stderr.starts_with("procrt: ") {
            return skipped("this machine mounts no overlay");
        }
        let error = outcome.refused();
        assert!(error.contains(": its file system, \"overlay\", does not support that: "), "{error}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn mappings_that_cannot_be_are_faults() {
    let first = Bundle::sleeping().config["mounts"].as_array().unwrap().len();
    let line = map(&[(0, 100_000, 1)]);
    for (change, expected) in [
        (
            json!({"options": ["bind", "idmap"]}),
            "options: \"idmap\" needs uidMappings and gidMappings, or a user namespace to take them from",
        ),
        (
            json!({"options": ["rbind", "ridmap"], "uidMappings": [], "gidMappings": []}),
            "options: \"ridmap\" needs uidMappings and gidMappings, or a user namespace to take them from",
        ),
        (json!({"options": ["bind", "idmap"], "uidMappings": line}), "gidMappings: is missing: uidMappings need them"),
        (json!({"options": ["bind"], "gidMappings": line}), "uidMappings: is missing: gidMappings need them"),
        (
            json!({"options": ["bind"], "gidMappings": line, "uidMappings": map(&[(0, 1, 0)])}),
            "uidMappings[0].size: 0 maps nothing",
        ),
        (
            json!({"options": ["idmap"], "type": "tmpfs", "gidMappings": line, "uidMappings": line}),
            "options: ids are mapped of bind mounts alone (bind, rbind)",
        ),
        (
            json!({"options": ["remount", "idmap"], "gidMappings": line, "uidMappings": line}),
            "options: ids are mapped of bind mounts alone (bind, rbind)",
        ),
    ] {
        let mut mount = json!({"destination": "/vol", "source": "/tmp"});
        mount.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let bundle = Bundle::sleeping().set("/mounts/-", mount);
        assert_eq!(bundle.create().refused(), format!("mounts[{first}].{expected}"));
        bundle.assert_nothing_left();
    }
}

#[test]
fn the_plan_and_the_features_tell_of_mapped_ids() {
    let bundle = with(Bundle::sleeping().mapped(100_000), &["bind", "ridmap"], &[(0, 5, 2)]);
    bundle.write();
    let text = bundle.call(&["explain", "--bundle", bundle.path().to_str().unwrap()]).ok();
    assert!(text.contains("/vol <- bind ") && text.contains("ridmap users 0+2:5 groups 0+2:5"), "{text}");
    let features: Value = serde_json::from_str(&bundle.call(&["features"]).ok()).unwrap();
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], json!(true));
    for option in ["idmap", "ridmap"] {
        assert!(features["mountOptions"].as_array().unwrap().contains(&json!(option)));
    }
}
