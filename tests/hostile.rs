//! Images that try to have procrt write outside of the container's root, while it makes the root or later.

mod support;

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::container::Container;
use support::{Bundle, Outcome, rounds};

/// A directory of the host's that nobody is to change, look as they may for it.
struct Outside {
    dir: tempfile::TempDir,
    before: Vec<String>,
}

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["null", "console", "file", "ptmx", "uptime", "resolv.conf"] {
            fs::write(dir.path().join(name), "kept\n").unwrap();
        }
        for name in ["sub/deep", "pts", "shm", "self", "sys", "fs/cgroup", "etc", "work"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let mut outside = Self { dir, before: Vec::new() };
        outside.before = outside.now();
        outside
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    /// Everything about every file in it, and what is mounted there.
    fn now(&self) -> Vec<String> {
        fn walk(path: &Path, all: &mut Vec<String>) {
            let file = fs::symlink_metadata(path).unwrap();
            let times = (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec());
            let about = (file.mode(), file.uid(), file.gid(), file.size(), file.nlink(), file.dev(), times);
            all.push(format!("{} {about:?}", path.display()));
            if file.is_dir() {
                let mut entries: Vec<PathBuf> =
                    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
                entries.sort();
                for entry in &entries {
                    walk(entry, all);
                }
            }
        }
        let mut all = Vec::new();
        walk(self.dir.path(), &mut all);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.extend(mounts.lines().filter(|line| line.contains(self.path())).map(str::to_owned));
        all
    }

    #[track_caller]
    fn assert_untouched(&self, how: &str) {
        assert_eq!(self.now(), self.before, "{how}");
    }
}

/// Where procrt makes, opens or mounts something for a container of [`busy`].
const PLACES: [&str; 22] = [
    "dev",
    "dev/null",
    "dev/console",
    "dev/ptmx",
    "dev/pts",
    "dev/pts/ptmx",
    "dev/shm",
    "dev/fd",
    "dev/mqueue",
    "proc",
    "proc/sys",
    "sys",
    "sys/fs",
    "sys/fs/cgroup",
    "etc",
    "etc/passwd",
    "etc/resolv.conf",
    "run",
    "tmp",
    "vol",
    "vol/deep",
    "work",
];

/// A configuration that has something at all of [`PLACES`].
fn busy(script: &str) -> Bundle {
    let bundle = Bundle::new(script);
    for dir in ["volume/deep", "rootfs/vol/deep", "rootfs/work", "rootfs/tmp/full", "rootfs/sys/fs/cgroup"] {
        fs::create_dir_all(bundle.join(dir)).unwrap();
    }
    for file in ["source", "rootfs/etc/resolv.conf", "rootfs/tmp/full/file"] {
        fs::write(bundle.join(file), "text\n").unwrap();
    }
    bundle
        .mount("/etc/resolv.conf", "bind", "source", &["bind", "ro"])
        .mount("/run", "tmpfs", "tmpfs", &["mode=755"])
        .mount("/tmp", "tmpfs", "tmpfs", &["tmpcopyup"])
        .mount("/vol/deep/new", "bind", "volume", &["rbind", "rw"])
        .mount("/run", "", "", &["remount", "nosuid"])
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"])
        .set(
            "/linux/devices",
            json!([{"path": "/dev/sub/zero", "type": "c", "major": 1, "minor": 5, "uid": 3},
                                      {"path": "/vol/file", "type": "p"}]),
        )
        .set("/linux/maskedPaths", json!(["/proc/kcore", "/etc/passwd", "/vol/sub", "/work/file", "/sys/firmware"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/vol/etc", "/etc", "/work/sub"]))
        .set("/process/cwd", json!("/work/here/and/there"))
}

/// Puts a symbolic link at `place` in the root, whatever is there.
fn replace(bundle: &Bundle, place: &str, target: &str) {
    let path = bundle.inside(place);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    symlink(target, path).unwrap();
}

/// The ways in which a root can be made.
const KINDS: [&str; 5] = ["plain", "bare", "mapped", "chroot", "moved"];

fn as_kind(bundle: Bundle, kind: &str) -> Bundle {
    match kind {
        // Without a /dev of its own, all of that goes into the image.
        "bare" => bundle.without_mount("/dev").without_mount("/dev/pts").without_mount("/dev/shm"),
        "mapped" => {
            // Its root is to be able to make what is missing.
            let mut chown = std::process::Command::new("chown");
            assert!(chown.args(["-R", "-h", "100000:100000"]).arg(bundle.inside("")).status().unwrap().success());
            // The host's devices are bound there, and this is none.
            bundle.mapped(100_000).set("/linux/devices/0/type", json!("p"))
        }
        "chroot" => bundle.without_namespace("mount"),
        _ => bundle,
    }
}

fn run_as_kind(bundle: &Bundle, kind: &str) -> Outcome {
    bundle.run_with(if kind == "moved" { &["--no-pivot"] } else { &[] })
}

#[test]
fn no_link_in_an_image_leads_out_of_it() {
    let outside = Outside::new();
    let path = outside.path().to_owned();
    let targets = [
        path.clone(),
        format!("../../../../../../../../../..{path}"),
        format!("/proc/self/root{path}"),
        format!("/proc/self/cwd/../../../../..{path}"),
        format!("/../..{path}/sub"),
        "/".to_owned(),
        "/dev/fd/3".to_owned(),
    ];
    let script = "echo x 2>/dev/null > /vol/deep/new/x; true";
    for kind in KINDS {
        let bundle = as_kind(busy(script), kind);
        run_as_kind(&bundle, kind).ok();
        outside.assert_untouched(kind);
    }
    // Every place with every target and with every kind, if not all three.
    for (number, place) in PLACES.iter().enumerate() {
        for (target, kind) in targets.iter().zip((number..).map(|number| KINDS[number % KINDS.len()])) {
            let bundle = busy(script);
            replace(&bundle, place, target);
            let bundle = as_kind(bundle, kind);
            let outcome = run_as_kind(&bundle, kind);
            let how = format!("{kind}: {place} -> {target}: {outcome:?}");
            outside.assert_untouched(&how);
            assert!([0, 1].contains(&outcome.code()), "{how}");
            assert_eq!(fs::read_to_string(bundle.join("source")).unwrap(), "text\n", "{how}");
        }
    }
}

#[test]
fn an_image_that_is_nothing_but_links_leads_nowhere() {
    let outside = Outside::new();
    for (index, target) in [outside.path().to_owned(), format!("/proc/1/root{}", outside.path())].iter().enumerate() {
        for terminal in [false, true] {
            let bundle = busy("true").set("/process/terminal", json!(terminal));
            for place in ["dev", "sys", "etc", "run", "tmp", "vol", "work", "var", "root", "home", "usr"] {
                replace(&bundle, place, &format!("{target}/{}", ["", "sub", "no/such"][index]));
            }
            let outcome = bundle.run();
            outside.assert_untouched(&format!("{target}: {outcome:?}"));
        }
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Exchanges two names, at once and as often as it can, until told to stop.
fn exchange(one: &Path, other: &Path, stop: &AtomicBool) {
    let (one, other) = (c_path(one), c_path(other));
    while !stop.load(Ordering::Relaxed) {
        let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
        nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, one.as_c_str(), nix::fcntl::AT_FDCWD, other.as_c_str(), flags)
            .unwrap();
    }
}

/// Another container can have the same image or volume, and change it meanwhile.
#[test]
fn a_link_that_comes_and_goes_leads_nowhere() {
    let outside = Outside::new();
    for place in ["dev", "vol", "vol/deep", "etc", "work", "sys", "proc"] {
        let bundle = busy("true").without_mount("/dev").without_mount("/dev/pts").without_mount("/dev/shm");
        fs::create_dir_all(bundle.inside(place)).unwrap();
        let trap = bundle.inside("trap");
        symlink(outside.path(), &trap).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| exchange(&bundle.inside(place), &trap, &stop));
            let end = Instant::now() + Duration::from_millis(rounds(700) as u64);
            let mut outcomes = (0, 0);
            while Instant::now() < end {
                let outcome = bundle.run();
                match outcome.code() {
                    0 => outcomes.0 += 1,
                    _ => outcomes.1 += 1,
                }
                outside.assert_untouched(&format!("{place}: {outcome:?}"));
            }
            stop.store(true, Ordering::Relaxed);
            assert!(outcomes.0 + outcomes.1 > 0);
        });
    }
}

/// What processes of the container have done to its files is nothing that `exec` or `delete` follows.
#[test]
fn a_container_that_has_turned_its_files_into_links_leads_nowhere() {
    let outside = Outside::new();
    for mapped in [false, true] {
        let bundle = Bundle::sleeping().capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_CHOWN"]);
        let bundle = if mapped { bundle.mapped(100_000) } else { bundle };
        let container = Container::of(bundle);
        let path = outside.path();
        let script = format!(
            "umount /dev/pts /dev/shm /dev/mqueue; rm -rf /dev/*; ln -s {path}/pts /dev/pts; ln -s {path}/null /dev/null; \
             ln -s {path} /link; ln -s {path}/console /dev/console; ln -s {path}/ptmx /dev/ptmx; mount -t tmpfs t /proc; \
             mkdir -p /proc/self/attr /proc/self/fd; ln -s {path}/file /proc/self/attr/exec; true"
        );
        container.exec(&["sh", "-c", &script]);
        for (options, args) in [
            (&[][..], &["true"][..]),
            (&["--tty"], &["true"]),
            (&["--cwd", "/link/made"], &["true"]),
            (&["--cwd", "/link"], &["/bin/sh", "-c", ": > made"]),
            (&["--user", "5:5"], &["true"]),
        ] {
            let outcome = container.exec_with(options, args);
            outside.assert_untouched(&format!("{options:?}: {outcome:?}"));
        }
    }
}

/// What is bound over itself, or under what is bound later, stays inside too.
#[test]
fn mounts_through_links_land_inside_and_are_gone_with_the_container() {
    let outside = Outside::new();
    let bundle = busy("cat /proc/self/mountinfo");
    replace(&bundle, "vol", outside.path());
    let bundle = bundle.mount("/vol/sub", "tmpfs", "tmpfs", &[]);
    // Below the image's own directory of that path.
    fs::create_dir_all(bundle.inside(&format!("{}/deep", outside.path()))).unwrap();
    let outcome = bundle.run();
    outside.assert_untouched(&format!("{outcome:?}"));
    let text = outcome.ok();
    let places: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    for place in ["/deep/new", "/sub"] {
        assert!(places.contains(&format!("{}{place}", outside.path()).as_str()), "{place}: {text}");
    }
}
