//! Containers of a plain user: one without any privilege, whose own id is root inside.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde_json::json;
use support::container::Container;
use support::plain::{ID, User};
use support::{Bundle, Outcome, skipped, unified};

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

/// `run` in a mount namespace in which the user has a name, and 65536 subordinate ids from 300000 on.
fn run_with_ranges(bundle: &Bundle) -> Outcome {
    run_with_ranges_in(bundle, "true")
}

/// The same after the shell's `command`.
fn run_with_ranges_in(bundle: &Bundle, command: &str) -> Outcome {
    let passwd = format!("root:x:0:0:root:/root:/bin/sh\nplain:x:{ID}:{ID}::/:/bin/sh\n");
    let mut before = Vec::new();
    for (name, text) in [("passwd", &*passwd), ("subuid", "plain:300000:65536\n"), ("subgid", "plain:300000:65536\n")] {
        fs::write(bundle.join(name), text).unwrap();
        before.push(format!("mount --bind {} /etc/{name}", bundle.join(name).display()));
    }
    before.push(command.to_owned());
    bundle.run_apart(&before.join("; "), "true")
}

fn maps(first: u32) -> serde_json::Value {
    json!([{"containerID": 0, "hostID": first, "size": 1}, {"containerID": 1, "hostID": 300_000, "size": 65535}])
}

fn ranged(script: &str) -> Bundle {
    plain(script).set("/linux/uidMappings", maps(ID)).set("/linux/gidMappings", maps(ID))
}

#[test]
fn ranges_are_mapped_by_newuidmap_and_newgidmap() {
    if !["/usr/bin/newuidmap", "/usr/bin/newgidmap"].iter().all(|path| std::path::Path::new(path).exists()) {
        return skipped("there is no newuidmap");
    }
    let script = "id -u; id -G; touch /tmp/mine; cat /proc/self/uid_map | tr -s ' '; cat /proc/self/setgroups";
    let bundle = ranged(script).set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 7]}));
    let said = run_with_ranges(&bundle).ok();
    assert_eq!(said, format!("1000\n1000 5 7\n 0 {ID} 1\n 1 300000 65535\nallow"));
    assert_eq!(fs::metadata(bundle.inside("/tmp/mine")).unwrap().uid(), 300_999);
    // Root inside may be a subordinate id too.
    let mapping = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
    let bundle = plain("id -u; cat /proc/self/uid_map | tr -s ' '").set("/linux/uidMappings", mapping.clone());
    let bundle = bundle.set("/linux/gidMappings", mapping);
    assert_eq!(run_with_ranges(&bundle).ok(), "0\n 0 300000 65536");
    // What is not the user's is refused, and it is said where that is to be found.
    let mapping = json!([{"containerID": 0, "hostID": 400_000, "size": 65536}]);
    let bundle = plain("true").set("/linux/uidMappings", mapping);
    let error = run_with_ranges(&bundle).refused();
    assert!(error.starts_with("linux.uidMappings: newuidmap: ") && error.ends_with("/etc/subuid)"), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn without_the_programs_their_package_is_named() {
    let bundle = ranged("true");
    let run = bundle.making("run", &[]);
    let args: Vec<_> = run.get_args().filter(|arg| !arg.to_string_lossy().starts_with("PATH=")).collect();
    let error = Outcome::of(std::process::Command::new(run.get_program()).args(args).current_dir("/")).refused();
    assert!(error.starts_with("linux.uidMappings: ") && error.contains("package uidmap"), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn what_is_shared_with_the_host_is_bound_from_it_with_a_warning() {
    let script = "ls /sys/class/net | head -1; test -d /proc/self && awk '$5 ~ /^.(sys|proc|dev.mqueue)$/ {print $5, $6}' /proc/self/mountinfo";
    let mut bundle = plain(script).without_namespace("network").without_namespace("pid");
    let mut expected = vec!["/sys", "/proc"];
    if fs::exists("/dev/mqueue").unwrap() {
        bundle = bundle.without_namespace("ipc");
        expected.push("/dev/mqueue");
    }
    let outcome = bundle.run();
    assert_eq!(outcome.code(), 0, "{outcome:#?}");
    for path in &expected {
        let line = outcome.stdout.lines().find(|line| line.split(' ').next() == Some(*path)).unwrap();
        assert!(["nosuid", "nodev", "noexec"].iter().all(|word| line.contains(word)), "{line}");
        let warning = format!("the host's {path:?} is bound on {path:?}");
        assert!(outcome.stderr.contains(&warning), "{outcome:#?}");
    }
    assert_eq!(outcome.stderr.lines().count(), expected.len(), "{outcome:#?}");
    // With its own, there is nothing to warn of.
    assert_eq!(plain("true").run().stderr, "");
}

#[test]
fn a_mounts_ids_are_not_a_plain_users_to_map() {
    let bundle = plain("true");
    fs::create_dir(bundle.inside("vol")).unwrap();
    let bundle = bundle.mount("/vol", "bind", "rootfs/tmp", &["bind", "idmap"]);
    let error = bundle.run().refused();
    assert!(error.starts_with("mounts[6]: map the ids of ") && error.contains("not procrt's to map"), "{error}");
}

#[test]
fn its_own_id_need_not_be_root_inside() {
    let mapping = json!([{"containerID": ID, "hostID": ID, "size": 1}]);
    let bundle = plain("id -u; id -g; touch /tmp/x; grep CapEff /proc/self/status");
    let bundle = bundle.set("/linux/uidMappings", mapping.clone()).set("/linux/gidMappings", mapping);
    let bundle = bundle.set("/process/user", json!({"uid": ID, "gid": ID})).without("/process/capabilities");
    assert_eq!(bundle.run().ok(), format!("{ID}\n{ID}\nCapEff:\t0000000000000000"));
}

#[test]
fn a_user_namespace_is_joined_by_its_path_and_what_belongs_to_it_too() {
    let holder = Container::of(plain("exec sleep 1000").set("/hostname", json!("pod")));
    let of = |kind: &str, file: &str| (kind.to_owned(), format!("/proc/{}/ns/{file}", holder.pid()));
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; hostname; readlink /proc/self/ns/user";
    let user = fs::read_link(of("user", "user").1).unwrap();
    for kinds in [
        &[("user", "user")][..],
        &[("user", "user"), ("uts", "uts"), ("ipc", "ipc"), ("network", "net"), ("pid", "pid")],
    ] {
        let mut bundle = plain(script).without("/linux/uidMappings").without("/linux/gidMappings");
        for (kind, file) in kinds {
            bundle = bundle.namespace(kind, Some(&of(kind, file).1));
        }
        let bundle = if kinds.len() > 1 { bundle } else { bundle.set("/hostname", json!("pod")) };
        assert_eq!(bundle.run().ok(), format!("0\n 0 {ID} 1\npod\n{}", user.display()), "{kinds:?}");
    }
    // A user that is not mapped there.
    let bundle = plain("true").without("/linux/uidMappings").without("/linux/gidMappings");
    let bundle = bundle.namespace("user", Some(&of("user", "user").1)).set("/process/user/uid", json!(3));
    let error = bundle.run().refused();
    assert_eq!(
        error,
        "process.user.uid: become 3: it is not mapped in the container's user namespace: invalid argument (os error 22)"
    );
}

#[test]
fn root_of_a_user_namespace_needs_no_other_and_maps_only_what_it_has() {
    let run = |bundle: &Bundle| {
        let run = bundle.making("run", &[]);
        let args = run.get_args().skip_while(|arg| *arg != support::plain::program());
        Outcome::of(User(ID).command("unshare").arg("--map-root-user").args(args).current_dir("/"))
    };
    // Its devices are bound although it has no user namespace that is its own.
    let bundle = plain("id -u; stat -c %t:%T /dev/null; cat /sys/class/net/lo/mtu");
    let bundle = bundle.without_namespace("user").without("/linux/uidMappings").without("/linux/gidMappings");
    assert_eq!(run(&bundle).ok(), "0\n1:3\n65536");
    // A namespace inside the one.
    let mapping = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    let bundle = plain("id -u; echo $$").set("/linux/uidMappings", mapping.clone()).set("/linux/gidMappings", mapping);
    assert_eq!(run(&bundle).ok(), "0\n1");
    let error = run(&plain("true")).refused();
    let expected = format!("{ID}+1 are not all mapped in the user namespace that procrt is in (/proc/self/uid_map)");
    assert!(error.starts_with("write /proc/") && error.contains(&expected), "{error}");
    // It joins what it has made, and comes back.
    let bundle =
        plain("exec sleep 1000").without_namespace("user").without("/linux/uidMappings").without("/linux/gidMappings");
    let call = |command: &[&str]| {
        let command = bundle.command(command);
        let args: Vec<_> = command.get_args().map(|arg| arg.to_str().unwrap()).collect();
        args[args.iter().position(|arg| *arg == "--root").unwrap() - 1..].join(" ")
    };
    bundle.write();
    let (create, start) =
        (call(&["create", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]), call(&["start", bundle.id()]));
    let (exec, delete) = (call(&["exec", bundle.id(), "echo", "inside"]), call(&["delete", "--force", bundle.id()]));
    let script = format!("{create} && {start} && {exec} && {delete}");
    let mut command = User(ID).command("unshare");
    assert_eq!(Outcome::of(command.args(["--map-root-user", "sh", "-c", &script]).current_dir("/")).ok(), "inside");
    // Its limits need a control group too.
    let bundle = plain("true").set("/linux/resources/memory", json!({"limit": 1 << 26}));
    let error = run(&bundle).refused();
    assert!(error.starts_with("linux.resources.memory.limit: takes a control group"), "{error}");
}

#[test]
fn a_plain_user_nests_containers() {
    let inner = plain("id -u; echo $$; cat /proc/self/uid_map | tr -s ' '").without_namespace("network");
    let mapping = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    let inner = inner.set("/linux/uidMappings", mapping.clone()).set("/linux/gidMappings", mapping);
    let outer = plain("mkdir -p /b/store; procrt --root /b/store run --bundle /b inner 2>/b/said; cat /b/said >&2");
    let outer = outer.mount("/bin/procrt", "bind", support::plain::program().to_str().unwrap(), &["bind"]);
    fs::create_dir(outer.inside("/b")).unwrap();
    Outcome::of(std::process::Command::new("cp").arg("-a").arg(inner.inside("")).arg(outer.inside("/b/rootfs"))).ok();
    fs::write(outer.inside("/b/config.json"), inner.config.to_string()).unwrap();
    support::plain::give(&outer.inside("/b"));
    let outcome = outer.run();
    assert_eq!(outcome.stdout, "0\n1\n 0 0 1\n", "{outcome:#?}");
}

#[test]
fn a_terminal_is_the_container_users() {
    let bundle = plain("tty; stat -c '%u' /dev/console; stty size").set("/process/terminal", json!(true));
    let bundle = bundle.set("/process/consoleSize", json!({"height": 7, "width": 77}));
    let (status, said, _) = support::tty::Foreground::run(&bundle).finish();
    assert_eq!(status, 0, "{said}");
    assert!(said.starts_with("/dev/pts/0\r\n0\r\n"), "{said}");
    // Of one that joins too.
    let container = Container::of(plain("exec sleep 1000"));
    let call = container.command_of(&["--tty"], &["sh", "-c", "test -t 0 && tty"]);
    let (status, said, _) = support::tty::Foreground::of(&call).finish();
    assert_eq!((status, said.trim()), (0, "/dev/pts/0"), "{said}");
}

#[test]
fn hooks_run_as_the_caller() {
    let mut bundle = plain("exec sleep 1000");
    let log = bundle.join("hooks").display().to_string();
    for kind in ["createRuntime", "createContainer", "poststart", "poststop"] {
        let args = ["sh", "-c", &format!("echo {kind} $(id -u) >> {log}")];
        bundle = bundle
            .set(&format!("/hooks/{kind}"), json!([{"path": "/bin/sh", "args": args, "env": ["PATH=/usr/bin:/bin"]}]));
    }
    let bundle = Container::of(bundle).end();
    let said = fs::read_to_string(bundle.join("hooks")).unwrap();
    assert_eq!(said, format!("createRuntime {ID}\ncreateContainer 0\npoststart {ID}\npoststop {ID}\n"));
}

/// Control groups that are delegated to the user, in which a process of its can be, and which go with the test.
struct Delegated {
    /// Those that are to be removed.
    made: Vec<PathBuf>,
    /// Where the process is put.
    own: Vec<PathBuf>,
}

impl Delegated {
    fn new(name: &str) -> Self {
        let name = format!("procrt-test-{name}-{}", std::process::id());
        let (mut made, mut own) = (Vec::new(), Vec::new());
        let mut add = |dir: PathBuf, files: &[&str]| {
            fs::create_dir(&dir).unwrap();
            for file in [&[""], files].concat() {
                chown(dir.join(file), Some(ID), Some(ID)).unwrap();
            }
            made.push(dir);
        };
        if unified() {
            let root = Path::new("/sys/fs/cgroup");
            fs::write(root.join("cgroup.subtree_control"), "+pids +memory").unwrap();
            // As a service manager does it: the group that is the user's has no processes, and one inside has.
            let files = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
            add(root.join(&name), &files);
            add(root.join(&name).join("own"), &files);
            own.push(root.join(&name).join("own"));
        } else {
            for hierarchy in ["pids", "freezer", "unified"] {
                let dir = Path::new("/sys/fs/cgroup").join(hierarchy).join(&name);
                add(dir.clone(), &["cgroup.procs"]);
                own.push(dir);
            }
        }
        Self { made, own }
    }

    /// What has a shell enter them.
    fn enter(&self) -> String {
        self.own.iter().map(|dir| format!("echo $$ > {}/cgroup.procs; ", dir.display())).collect()
    }

    /// The call from within.
    fn call(&self, command: &std::process::Command) -> std::process::Command {
        let enter = self.enter();
        let mut entered = std::process::Command::new("sh");
        entered.args(["-ec", &format!("{enter}exec \"$@\""), "sh"]).arg(command.get_program()).args(command.get_args());
        entered.current_dir("/");
        entered
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in self.made.iter().rev() {
            let end = std::time::Instant::now() + support::LIMIT;
            while fs::remove_dir(dir).is_err() && !std::thread::panicking() {
                assert!(std::time::Instant::now() < end, "{} stays", dir.display());
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

#[test]
fn in_a_control_group_that_is_the_users_limits_and_freezing_are_too() {
    let delegated = Delegated::new("limits");
    let bundle = plain("exec sleep 1000").set("/linux/resources/pids", json!({"limit": 17}));
    Outcome::of(&mut delegated.call(&bundle.making("run", &["--detach"]))).ok();
    let container = Container::of_started(bundle);
    let own = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let name = format!("/procrt-{}", container.id());
    assert!(own.lines().filter(|line| line.ends_with(&name)).count() == delegated.own.len(), "{own}");
    let pids = own.lines().find(|line| line.contains(":pids:") || unified()).unwrap().rsplit(':').next().unwrap();
    let hierarchy = if unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    assert_eq!(fs::read_to_string(format!("{hierarchy}{pids}/pids.max")).unwrap().trim(), "17");
    // All that goes by control groups goes.
    container.call(&["pause", container.id()]).ok();
    assert_eq!(container.status(), "paused");
    container.call(&["resume", container.id()]).ok();
    Outcome::of(&mut delegated.call(&container.command(&["update", "--pids-limit", "23", container.id()]))).ok();
    assert_eq!(fs::read_to_string(format!("{hierarchy}{pids}/pids.max")).unwrap().trim(), "23");
    let joined =
        Outcome::of(&mut delegated.call(&container.command_of(&[], &["sh", "-c", "cat /proc/self/cgroup"]))).ok();
    assert!(joined.lines().any(|line| line.ends_with(":/")), "{joined}");
    // From outside of what is the user's nobody comes in, and it is said why.
    let error = container.exec(&["true"]).not_done();
    assert!(error.contains("permission denied") && error.contains("control group"), "{error}");
    let error = container.call(&["kill", "--all", container.id(), "KILL"]);
    assert_eq!(error.code(), 0, "{error:#?}");
    container.wait_for_status("stopped");
    container.end();
}

#[test]
fn a_limit_of_a_controller_that_is_not_delegated_is_an_error() {
    let delegated = Delegated::new("missing");
    let bundle = plain("true").set("/linux/resources/rdma", json!({"none0": {"hcaHandles": 1}}));
    let error = Outcome::of(&mut delegated.call(&bundle.making("run", &[]))).refused();
    assert!(error.starts_with("linux.resources.rdma[\"none0\"]: "), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn control_groups_that_subordinate_ids_own_are_removed_too() {
    if !Path::new("/usr/bin/newuidmap").exists() {
        return skipped("there is no newuidmap");
    }
    let delegated = Delegated::new("owned");
    let group = if unified() { "/sys/fs/cgroup/sub" } else { "/sys/fs/cgroup/unified/sub" };
    let bundle =
        ranged(&format!("mkdir -p {group}/inner && chown 5 {group} && chmod 700 {group} && stat -c %u {group}"));
    let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &[]);
    let enter = delegated.enter();
    let outcome = run_with_ranges_in(&bundle, enter.trim_end_matches("; "));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("5\n", ""), "{outcome:#?}");
    bundle.assert_nothing_left();
}
