//! The container's root: mounts, devices, masked and read-only paths, and images that try to reach the host.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use support::{Bundle, Outcome, skipped, unified};

/// Attributes, optional fields and type of the mount at `path`, of what `cat /proc/self/mountinfo` said.
fn mount_at<'a>(mountinfo: &'a str, path: &str) -> (Vec<&'a str>, Vec<&'a str>, &'a str) {
    let mut lines = mountinfo.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let fields = lines.rfind(|fields| fields.get(4) == Some(&path)).unwrap_or_else(|| panic!("{path}: {mountinfo}"));
    let dash = fields.iter().position(|field| *field == "-").unwrap();
    (fields[5].split(',').collect(), fields[6..dash].to_vec(), fields[dash + 1])
}

#[test]
fn the_attributes_of_a_bind_mount_are_those_of_its_options() {
    let source = tempfile::tempdir().unwrap();
    for (options, expected) in [
        (&["bind"][..], &["rw"][..]),
        (&["bind", "ro"], &["ro"]),
        (&["bind", "nosuid", "nodev", "noexec"], &["rw", "nosuid", "nodev", "noexec"]),
        (&["bind", "ro", "noatime"], &["ro", "noatime"]),
        (&["bind", "nosymfollow"], &["rw", "nosymfollow"]),
        (&["bind", "nodiratime", "strictatime"], &["rw", "nodiratime"]),
        (&["rbind", "ro", "rw"], &["rw"]),
        (&["rbind", "rro", "rnosuid", "rnodev", "rnoexec"], &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let bundle = Bundle::new("cat /proc/self/mountinfo");
        let bundle = bundle.mount("/vol", "bind", source.path().to_str().unwrap(), options);
        let text = bundle.run().ok();
        let (mut attributes, _, _) = mount_at(&text, "/vol");
        attributes.retain(|attribute| *attribute != "relatime");
        assert_eq!(attributes, expected, "{options:?}");
    }
}

#[test]
fn a_read_only_bind_mount_cannot_be_written_to() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path().to_str().unwrap();
    let bundle = Bundle::new("touch /ro/x 2>&1; touch /rw/y; ls /ro");
    let bundle = bundle.mount("/ro", "none", path, &["bind", "ro"]).mount("/rw", "bind", path, &[]);
    assert_eq!(bundle.run().ok(), "touch: /ro/x: Read-only file system\ny");
    assert_eq!(fs::read_dir(source.path()).unwrap().count(), 1);
}

#[test]
fn a_file_is_bound_on_a_file_that_is_made() {
    let bundle = Bundle::new("cat /new/dir/file");
    fs::write(bundle.join("source"), "hello").unwrap();
    // A relative source is below the bundle.
    assert_eq!(bundle.mount("/new/dir/file", "", "source", &["bind", "ro"]).run().ok(), "hello");
}

#[test]
fn recursive_options_reach_the_mounts_below() {
    let script = "cat /proc/self/mountinfo; touch /plain/sub/a /all/sub/b 2>&1; ls /one/sub; true";
    let bundle = Bundle::new(script);
    let source = bundle.join("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    let path = source.to_str().unwrap().to_owned();
    let bundle = bundle
        .mount("/plain", "bind", &path, &["rbind", "ro"])
        .mount("/all", "bind", &path, &["rbind", "rro", "rnosuid"])
        .mount("/one", "bind", &path, &["bind"]);
    let text = bundle.run_apart(&format!("mount -t tmpfs sub {path}/sub"), "true").ok();
    assert!(mount_at(&text, "/plain").0.contains(&"ro"), "{text}");
    assert!(mount_at(&text, "/plain/sub").0.contains(&"rw"), "{text}");
    for place in ["/all", "/all/sub"] {
        assert!(["ro", "nosuid"].iter().all(|word| mount_at(&text, place).0.contains(word)), "{place}: {text}");
    }
    assert!(!text.contains("/one/sub "), "{text}");
    assert!(text.contains("touch: /all/sub/b: Read-only file system"), "{text}");
    assert!(!text.contains("touch: /plain"), "{text}");
}

#[test]
fn a_remount_changes_the_attributes_of_what_is_there() {
    let bundle = Bundle::new("cat /proc/self/mountinfo").mount("/dev/shm", "", "", &["remount", "ro", "nosuid"]);
    let text = bundle.run().ok();
    assert!(mount_at(&text, "/dev/shm").0.contains(&"ro"), "{text}");
}

#[test]
fn mounts_made_inside_are_not_seen_outside_unless_asked_for() {
    for (propagation, options, seen) in [
        ("rslave", &["rbind", "rslave"][..], false),
        ("private", &["rbind", "rprivate"], false),
        ("rshared", &["rbind", "rshared"], true),
        ("shared", &["rbind", "shared"], true),
    ] {
        let bundle = Bundle::new("mount -t tmpfs made /vol/sub");
        let volume = bundle.join("volume");
        fs::create_dir(&volume).unwrap();
        let path = volume.to_str().unwrap().to_owned();
        let bundle = bundle
            .mount("/vol", "bind", &path, options)
            .set("/linux/rootfsPropagation", json!(propagation))
            .capabilities(&["CAP_SYS_ADMIN"]);
        let before = format!("mount -t tmpfs vol {path}; mount --make-shared {path}; mkdir {path}/sub");
        let text = bundle.run_apart(&before, "cat /proc/self/mountinfo").ok();
        assert_eq!(text.contains(&format!("{path}/sub ")), seen, "{propagation}: {text}");
    }
}

#[test]
fn the_hosts_mounts_stay_whatever_the_root_shares_with_them() {
    for propagation in ["rslave", "private", "rshared", "shared", "unbindable"] {
        let bundle = Bundle::running(&["/bin/true"]).set("/linux/rootfsPropagation", json!(propagation));
        // The mounts before and after have to be the same, also when every one of the host's is shared.
        let list = "awk '{print $3, $4, $5}' /proc/self/mountinfo";
        let before = format!("mount --make-rshared /; a=$({list})");
        let after = format!("b=$({list}); test \"$a\" = \"$b\" && echo same || echo \"$b\"");
        assert_eq!(bundle.run_apart(&before, &after).ok(), "same", "{propagation}");
    }
}

#[test]
fn mounts_made_outside_reach_a_slave() {
    let bundle =
        Bundle::new("echo ready > /out; while ! grep -q ' /vol/sub ' /proc/self/mountinfo; do sleep 0.01; done");
    let volume = bundle.join("volume");
    fs::create_dir(&volume).unwrap();
    let path = volume.to_str().unwrap().to_owned();
    let bundle = bundle.mount("/vol", "bind", &path, &["rbind", "rslave"]);
    let run = bundle.making("run", &[]);
    let out = bundle.inside("out");
    let script = format!(
        "mount -t tmpfs vol {path}; mount --make-shared {path}; mkdir {path}/sub; \"$@\" & \
         while ! test -s {}; do sleep 0.01; done; mount -t tmpfs sub {path}/sub; wait $!",
        out.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(run.get_program());
    Outcome::of(command.args(run.get_args())).ok();
}

#[test]
fn the_roots_propagation_is_the_configurations() {
    for (propagation, field) in
        [("shared", "shared:"), ("rshared", "shared:"), ("private", ""), ("rprivate", ""), ("unbindable", "unbindable")]
    {
        let bundle = Bundle::new("cat /proc/self/mountinfo").set("/linux/rootfsPropagation", json!(propagation));
        let text = bundle.run().ok();
        let (_, fields, _) = mount_at(&text, "/");
        match field {
            "" => assert_eq!(fields, Vec::<&str>::new(), "{propagation}"),
            _ => assert!(fields.iter().any(|there| there.starts_with(field)), "{propagation}: {fields:?}"),
        }
    }
}

#[test]
fn a_tmpfs_has_its_size_and_mode() {
    let bundle = Bundle::new(
        "df -k /t | tail -n 1 | awk '{print $2}'; stat -c %a /t; stat -c '%a %u' /u; dd if=/dev/zero of=/t/x bs=4096 count=300 2>&1 | head -n 1",
    );
    let bundle = bundle.mount("/t", "tmpfs", "tmpfs", &["size=1m", "mode=0750", "nosuid"]).mount(
        "/u",
        "tmpfs",
        "tmpfs",
        &["uid=5", "mode=1777"],
    );
    assert_eq!(bundle.run().ok(), "1024\n750\n1777 5\ndd: error writing '/t/x': No space left on device");
}

#[test]
fn a_tmpfs_takes_the_mode_of_what_it_covers() {
    let bundle = Bundle::new("stat -c %a /tmp").mount("/tmp", "tmpfs", "tmpfs", &[]);
    assert_eq!(bundle.run().ok(), "1777");
}

#[test]
fn tmpcopyup_fills_a_tmpfs_with_what_it_covers() {
    let script =
        "cat /data/file /data/dir/deep; readlink /data/link; stat -c '%a %u' /data/file; echo new > /data/file";
    let bundle = Bundle::new(script).mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "nosuid"]);
    let data = bundle.inside("data");
    fs::create_dir_all(data.join("dir")).unwrap();
    fs::write(data.join("file"), "file\n").unwrap();
    fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(data.join("file"), Some(42), Some(42)).unwrap();
    fs::write(data.join("dir/deep"), "deep\n").unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    assert_eq!(bundle.run().ok(), "file\ndeep\n/etc/passwd\n640 42");
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "file\n");
}

#[test]
fn the_default_devices_and_links_are_there() {
    let script = "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %F' /dev/$d; done; \
                  for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; \
                  head -c 4 /dev/zero | wc -c; echo x > /dev/null; echo x > /dev/full";
    let text = Bundle::new(script).run();
    let expected = "/dev/null 1:3 666 character special file\n/dev/zero 1:5 666 character special file\n\
                    /dev/full 1:7 666 character special file\n/dev/random 1:8 666 character special file\n\
                    /dev/urandom 1:9 666 character special file\n/dev/tty 5:0 666 character special file\n\
                    fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\n\
                    ptmx pts/ptmx\n4\n";
    assert_eq!(text.stdout, expected);
    assert!(text.stderr.contains("No space left on device"), "{}", text.stderr);
}

#[test]
fn configured_devices_are_made_with_mode_and_owner() {
    let devices = json!([
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/deep/loop9", "type": "b", "major": 7, "minor": 9},
        {"path": "/run/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}
    ]);
    let script = "stat -c '%n %t:%T %a %u:%g %F' /dev/fuse /dev/deep/loop9 /dev/null; stat -c '%a %F' /run/pipe";
    let expected = "/dev/fuse a:e5 640 5:6 character special file\n/dev/deep/loop9 7:9 666 0:0 block special file\n\
                    /dev/null 1:3 600 0:0 character special file\n600 fifo";
    assert_eq!(Bundle::new(script).set("/linux/devices", devices).run().ok(), expected);
}

/// In a user namespace devices are bound from the host's, whatever the host has at their paths.
#[test]
fn what_is_not_the_configured_device_is_not_bound_in_its_place() {
    for (path, kind, minor) in [("/etc/passwd", "c", 3), ("/dev/zero", "c", 3), ("/dev/full", "b", 7)] {
        let device = json!({"path": path, "type": kind, "major": 1, "minor": minor});
        let bundle = Bundle::running(&["/bin/true"]).mapped(100_000).set("/linux/devices", json!([device]));
        let error = bundle.run().refused();
        assert!(error.starts_with(&format!("make the device {path:?}: the host has something else there")), "{error}");
        bundle.assert_nothing_left();
    }
    let device = json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3});
    Bundle::running(&["/bin/true"]).mapped(100_000).set("/linux/devices", json!([device])).run().ok();
}

#[test]
fn a_dev_that_is_bound_is_left_as_it_is() {
    let bundle = Bundle::new("ls /dev").without_mount("/dev").without_mount("/dev/pts").without_mount("/dev/shm");
    let bundle = bundle.without_mount("/dev/mqueue");
    fs::create_dir(bundle.join("dev")).unwrap();
    fs::write(bundle.join("dev/only"), "").unwrap();
    let mut bundle = bundle;
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"destination": "/dev", "type": "bind", "source": "dev", "options": ["rbind"]}));
    assert_eq!(bundle.run().ok(), "only");
}

#[test]
fn masked_paths_show_nothing() {
    let script = "cat /secret/file /proc/timer_list; ls -A /secret/dir /sys/firmware | grep -v : ; \
                  touch /secret/dir/x 2>&1; stat -c %F /secret/file";
    let bundle = Bundle::new(script);
    fs::create_dir_all(bundle.inside("secret/dir")).unwrap();
    fs::write(bundle.inside("secret/dir/below"), "secret").unwrap();
    fs::write(bundle.inside("secret/file"), "secret").unwrap();
    let paths = ["/secret/file", "/secret/dir", "/proc/timer_list", "/sys/firmware", "/proc/nonexistent"];
    let outcome = bundle.set("/linux/maskedPaths", json!(paths)).run();
    let text = outcome.stdout.trim_start_matches('\n');
    assert_eq!(text, "touch: /secret/dir/x: Read-only file system\ncharacter special file\n", "{outcome:?}");
}

#[test]
fn read_only_paths_cannot_be_written_to() {
    let script = "echo 1 > /proc/sys/kernel/msgmax; touch /data/x; touch /data/sub/y; cat /data/file";
    let bundle = Bundle::new(script);
    fs::create_dir_all(bundle.inside("data/sub")).unwrap();
    fs::write(bundle.inside("data/file"), "readable\n").unwrap();
    let outcome = bundle.set("/linux/readonlyPaths", json!(["/proc/sys", "/data", "/nonexistent"])).run();
    assert_eq!(outcome.stdout, "readable\n");
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 3, "{}", outcome.stderr);
}

#[test]
fn a_read_only_root_leaves_its_mounts_writable() {
    let bundle = Bundle::new("touch /x /etc/y 2>&1; touch /dev/shm/z /tmp/w && echo written; mount 2>&1 | head -n 0");
    let bundle = bundle.set("/root/readonly", json!(true)).mount("/tmp", "tmpfs", "tmpfs", &[]);
    let text = bundle.run().ok();
    assert_eq!(text, "touch: /x: Read-only file system\ntouch: /etc/y: Read-only file system\nwritten");
    // What the image lacks is made before the root is read-only.
    let bundle = bundle.mount("/made/for/it", "tmpfs", "tmpfs", &[]);
    bundle.run().ok();
    assert!(bundle.inside("made/for/it").is_dir());
}

/// What a link in the image leads to is inside the root, whatever it says.
#[test]
fn links_in_the_image_do_not_lead_a_mount_to_the_host() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("sub")).unwrap();
    let outside = host.path().to_str().unwrap();
    for (target, destination) in [
        ("/", "/a/tmp/made"),
        (outside, "/a"),
        (outside, "/a/sub"),
        (outside, "/a/new/dir"),
        ("../../../../../../../../..", "/a/tmp/made"),
        (&format!("../../../../../../..{outside}"), "/a/sub"),
    ] {
        for (typ, options) in [("tmpfs", &[][..]), ("bind", &["rbind", "rw"])] {
            let bundle = Bundle::new("cat /proc/self/mountinfo");
            symlink(target, bundle.inside("a")).unwrap();
            fs::create_dir(bundle.join("volume")).unwrap();
            let text = bundle.mount(destination, typ, "volume", options).run().ok();
            let end = destination.rsplit('/').next().unwrap();
            let root = text.lines().filter(|line| {
                let place = line.split(' ').nth(4).unwrap();
                place.ends_with(&format!("/{end}")) || place == outside
            });
            assert_eq!(root.count(), 1, "{target} {destination}: {text}");
        }
    }
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(host.path().join("sub")).unwrap().count(), 0);
    assert!(!Path::new("/tmp/made").exists());
}

#[test]
fn links_in_the_image_do_not_lead_devices_masks_or_directories_to_the_host() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "kept").unwrap();
    let outside = host.path().to_str().unwrap().to_owned();
    let bundle = Bundle::new("pwd; touch /link/x 2>/dev/null; true");
    symlink(&outside, bundle.inside("link")).unwrap();
    let bundle = bundle
        .set("/linux/devices", json!([{"path": "/link/dir/zero", "type": "c", "major": 1, "minor": 5}]))
        .set("/linux/maskedPaths", json!(["/link/file"]))
        .set("/linux/readonlyPaths", json!(["/link"]))
        .set("/process/cwd", json!("/link/work/dir"));
    assert_eq!(bundle.run().ok(), format!("{outside}/work/dir"));
    let names: Vec<_> = fs::read_dir(host.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
    assert_eq!(fs::read_to_string(host.path().join("file")).unwrap(), "kept");
    assert!(bundle.inside(&outside).join("dir/zero").exists());
}

#[test]
fn an_image_whose_dev_is_a_link_gets_its_devices_inside() {
    let host = tempfile::tempdir().unwrap();
    let bundle = Bundle::new("stat -c %F /dev/null").without_mount("/dev").without_mount("/dev/pts");
    let bundle = bundle.without_mount("/dev/shm").without_mount("/dev/mqueue");
    fs::remove_dir(bundle.inside("dev")).unwrap();
    symlink(host.path(), bundle.inside("dev")).unwrap();
    assert_eq!(bundle.run().ok(), "character special file");
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
}

#[test]
fn a_device_that_the_image_replaces_by_something_else_is_refused() {
    let bundle = Bundle::sleeping().without_mount("/dev").without_mount("/dev/pts");
    let bundle = bundle.without_mount("/dev/shm").without_mount("/dev/mqueue");
    symlink("/etc/passwd", bundle.inside("dev/null")).unwrap();
    let error = bundle.create().refused();
    assert!(error.contains("/dev/null") && error.contains("something else"), "{error}");
    bundle.assert_nothing_left();
    assert!(fs::read_to_string(bundle.inside("etc/passwd")).unwrap().starts_with("root"));
}

#[test]
fn an_image_whose_proc_is_a_link_is_refused() {
    for target in ["/tmp", "etc", "/"] {
        let bundle = Bundle::sleeping();
        fs::remove_dir(bundle.inside("proc")).unwrap();
        symlink(target, bundle.inside("proc")).unwrap();
        let error = bundle.create().refused();
        assert!(error.contains("\"/proc\"") && error.ends_with("the destination is not a directory"), "{error}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_link_that_leads_a_mount_into_proc_is_refused() {
    let bundle = Bundle::sleeping().mount("/innocent", "tmpfs", "tmpfs", &[]);
    symlink("/proc/self/attr", bundle.inside("innocent")).unwrap();
    let error = bundle.create().refused();
    assert!(error.contains("\"/innocent\""), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn mounts_in_proc_are_refused_but_for_what_lxcfs_serves() {
    let bundle = Bundle::new("cat /proc/uptime");
    fs::write(bundle.join("uptime"), "1.00 2.00\n").unwrap();
    let bundle = bundle.mount("/proc/uptime", "bind", "uptime", &["bind", "ro"]);
    assert_eq!(bundle.run().ok(), "1.00 2.00");
    let error = bundle.mount("/proc/self/exe", "bind", "uptime", &["bind"]).create().refused();
    assert!(error.starts_with("mounts[7].destination: \"/proc/self/exe\" is inside /proc"), "{error}");
}

#[test]
fn the_hosts_root_is_out_of_reach() {
    let script = "ls -d /.. /../../bin/busybox; cat /proc/self/mountinfo | wc -l; ls /proc/1/cwd/; \
                  cd /proc/self/cwd/../../../..; pwd";
    let text = Bundle::new(script).run().ok();
    assert!(!text.contains("work") && text.ends_with('/'), "{text}");
    // The root's mount is the only one of the host's file system.
    let text = Bundle::new("cat /proc/self/mountinfo").run().ok();
    assert_eq!(text.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1, "{text}");
    assert_eq!(text.lines().count(), 7, "{text}");
}

#[test]
fn without_pivot_root_the_root_is_the_same() {
    let bundle = Bundle::new("ls -d /bin/busybox; ls /proc/self/status; ls -d /../../../work; pwd; touch /x");
    let outcome = bundle.run_with(&["--no-pivot"]);
    assert_eq!(outcome.stdout, "/bin/busybox\n/proc/self/status\n/\n");
    assert!(bundle.inside("x").exists());
    bundle.create_with(&["--no-pivot"]).ok();
    bundle.delete(&["--force"]).ok();
}

#[test]
fn the_control_groups_of_the_container_are_mounted() {
    let script = "cat /proc/self/mountinfo; ls /sys/fs/cgroup; touch /sys/fs/cgroup/x 2>/dev/null || echo refused";
    let options = &["nosuid", "noexec", "nodev", "relatime", "ro"];
    let text = Bundle::new(script).mount("/sys/fs/cgroup", "cgroup", "cgroup", options).run().ok();
    let (attributes, _, kind) = mount_at(&text, "/sys/fs/cgroup");
    for word in ["ro", "nosuid", "noexec", "nodev"] {
        assert!(attributes.contains(&word), "{word}: {text}");
    }
    assert!(text.ends_with("refused"), "{text}");
    if unified() {
        assert_eq!(kind, "cgroup2");
        assert!(text.contains("\ncgroup.procs\n"), "{text}");
    } else {
        assert_eq!((kind, mount_at(&text, "/sys/fs/cgroup/memory").2), ("tmpfs", "cgroup"));
        assert!(mount_at(&text, "/sys/fs/cgroup/memory").0.contains(&"ro"), "{text}");
    }
    // It is the container's own, not the machine's.
    let file = if unified() { "/sys/fs/cgroup/cgroup.procs" } else { "/sys/fs/cgroup/memory/cgroup.procs" };
    let text = Bundle::new(&format!("cat {file}")).mount("/sys/fs/cgroup", "cgroup", "cgroup", options).run().ok();
    assert_eq!(text.lines().next(), Some("1"));
}

#[test]
fn a_working_directory_that_is_missing_is_made() {
    let bundle = Bundle::new("pwd").set("/process/cwd", json!("/work/deep/er"));
    assert_eq!(bundle.run().ok(), "/work/deep/er");
    let made = fs::metadata(bundle.inside("work/deep/er")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (0, 0o755));
}

#[test]
fn a_working_directory_may_be_reached_through_a_link() {
    let bundle = Bundle::new("pwd -P").set("/process/cwd", json!("/link/deep"));
    symlink("/usr", bundle.inside("link")).unwrap();
    assert_eq!(bundle.run().ok(), "/usr/deep");
}

#[test]
fn a_working_directory_that_is_a_file_is_refused() {
    let bundle = Bundle::sleeping().set("/process/cwd", json!("/etc/passwd"));
    let error = bundle.create().refused();
    assert!(error.starts_with("process.cwd: ") && error.contains("not a directory"), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn overlay_and_other_file_systems_are_mounted_by_name() {
    let bundle = Bundle::new("cat /merged/file && echo new > /merged/new");
    for dir in ["lower", "upper", "work"] {
        fs::create_dir(bundle.join(dir)).unwrap();
    }
    fs::write(bundle.join("lower/file"), "from below\n").unwrap();
    let path = bundle.path().to_str().unwrap().to_owned();
    let options = [format!("lowerdir={path}/lower"), format!("upperdir={path}/upper"), format!("workdir={path}/work")];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let outcome = bundle.set(
        "/mounts/-",
        json!({"destination": "/merged", "type": "overlay", "source": "overlay", "options": options}),
    );
    let run = outcome.run();
    if run.stderr.contains("does not know the file system") {
        return skipped("this kernel has no overlayfs");
    }
    assert_eq!(run.ok(), "from below");
    assert_eq!(fs::read_to_string(outcome.join("upper/new")).unwrap(), "new\n");
}
