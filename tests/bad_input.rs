//! Input that is wrong: status 1, one sentence that names the place and the value, and nothing left.

mod support;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use serde_json::json;
use support::{Bundle, LIMIT, Outcome, PROCRT};

/// Both commands that read a bundle refuse it with the same sentence, which is the answer, and nothing is left.
#[track_caller]
fn refused(bundle: &Bundle) -> String {
    let sentence = bundle.create().refused();
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
    assert_eq!(bundle.run().refused(), sentence);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
    sentence
}

/// The same for a text that is no configuration.
#[track_caller]
fn text_refused(text: &str) -> String {
    let bundle = Bundle::sleeping();
    bundle.write_text(text);
    let create = ["create", "--bundle", bundle.path().to_str().unwrap(), bundle.id()];
    let sentence = bundle.call(&create).refused();
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
    sentence
}

#[test]
fn no_bundle() {
    let bundle = Bundle::sleeping();
    let error = bundle.call(&["create", "--bundle", "/nonexistent", bundle.id()]).refused();
    assert_eq!(error, "open bundle \"/nonexistent\": no such file or directory (os error 2)");
}

#[test]
fn no_configuration() {
    let bundle = Bundle::sleeping();
    let path = bundle.path().to_str().unwrap();
    let error = bundle.call(&["create", "--bundle", path, bundle.id()]).refused();
    assert_eq!(error, format!("read \"{path}/config.json\": no such file or directory (os error 2)"));
}

#[test]
fn what_is_not_json_is_named_by_line_and_column() {
    for (text, expected) in [
        ("", "config.json: line 1 column 0: "),
        ("{\n  \"ociVersion\": \"1.0.0\",\n  nonsense\n}", "config.json: line 3 column 3: "),
        ("{\"ociVersion\": \"1.0.0\"} trailing", "config.json: line 1 column 25: "),
        ("{\"ociVersion\": \"1.0.0\"", "config.json: line 1 column 22: "),
        ("\u{0}\u{1}\u{2}", "config.json: line 1 column 1: "),
    ] {
        let error = text_refused(text);
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn json_that_is_no_object() {
    for text in ["[]", "null", "5", "\"config\""] {
        let error = text_refused(text);
        assert!(error.starts_with("config.json: ") && error.ends_with("is not an object"), "{text}: {error}");
    }
}

#[test]
fn wrong_types_are_named_by_path_and_value() {
    for (pointer, value, expected) in [
        ("/process/args", json!("sh"), "process.args: \"sh\""),
        ("/process/args", json!(["a", 5]), "process.args[1]: 5"),
        ("/process/user/uid", json!("root"), "process.user.uid: \"root\""),
        ("/process/user/uid", json!(-1), "process.user.uid: -1"),
        ("/process/user/uid", json!(4_294_967_296_u64), "process.user.uid: 4294967296"),
        ("/process/terminal", json!("yes"), "process.terminal: \"yes\""),
        ("/process/capabilities/bounding", json!(["CAP_NOPE", 1]), "process.capabilities.bounding[1]: 1"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]),
            "process.rlimits[0].type: \"RLIMIT_NOPE\"",
        ),
        ("/root/readonly", json!(1), "root.readonly: 1"),
        ("/mounts/0/destination", json!(7), "mounts[0].destination: 7"),
        ("/mounts/1/options", json!("ro"), "mounts[1].options: \"ro\""),
        ("/linux/namespaces/2/type", json!("nope"), "linux.namespaces[2].type: \"nope\""),
        ("/linux/resources/memory/limit", json!("64m"), "linux.resources.memory.limit: \"64m\""),
        ("/hooks/prestart", json!({}), "hooks.prestart: "),
    ] {
        let error = refused(&Bundle::sleeping().set(pointer, value.clone()));
        assert!(error.starts_with(expected), "{pointer} {value}: {error}");
    }
}

#[test]
fn wrong_values_are_named_by_path_and_value() {
    for (pointer, value, expected) in [
        ("/ociVersion", json!("2.0.0"), "ociVersion: \"2.0.0\""),
        ("/ociVersion", json!("new"), "ociVersion: \"new\""),
        ("/process/args", json!([]), "process.args: is empty"),
        ("/process/cwd", json!("tmp"), "process.cwd: \"tmp\" is not an absolute path"),
        ("/process/env/-", json!("NOVALUE"), "process.env[2]: \"NOVALUE\""),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj: 1001"),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 4}]), "process.rlimits[0].soft: 5"),
        ("/root/path", json!(""), "root.path: is missing or empty"),
        ("/root/path", json!("nowhere"), "root.path: \"nowhere\": no such file or directory (os error 2)"),
        ("/root/path", json!("config.json"), "root.path: \"config.json\": not a directory (os error 20)"),
        ("/mounts/0/destination", json!("proc"), "mounts[0].destination: \"proc\" is not an absolute path"),
        ("/mounts/0/destination", json!("/"), "mounts[0].destination: \"/\""),
        ("/linux/namespaces/-", json!({"type": "pid"}), "linux.namespaces[6].type: \"pid\" is there twice"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]), "linux.uidMappings: "),
        ("/linux/sysctl", json!({"vm.swappiness": "1"}), "linux.sysctl[\"vm.swappiness\"]: "),
        ("/linux/cgroupsPath", json!("/a/../.."), "linux.cgroupsPath: \"/a/../..\""),
        ("/linux/maskedPaths", json!(["proc/kcore"]), "linux.maskedPaths[0]: \"proc/kcore\""),
        ("/linux/rootfsPropagation", json!("loose"), "linux.rootfsPropagation: \"loose\""),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "z"}]), "linux.devices[0].type: \"z\""),
        ("/linux/resources/memory/limit", json!(-5), "linux.resources.memory.limit: -5"),
        ("/linux/seccomp/defaultAction", json!("SCMP_ACT_NOPE"), "linux.seccomp.defaultAction: \"SCMP_ACT_NOPE\""),
        ("/hooks/prestart", json!([{"path": "bin/x"}]), "hooks.prestart[0].path: \"bin/x\""),
    ] {
        let error = refused(&Bundle::sleeping().set(pointer, value.clone()));
        assert!(error.starts_with(expected), "{pointer} {value}: {error}");
    }
}

#[test]
fn what_does_not_fit_together_is_named_by_path() {
    let host = |kind: &str| Bundle::sleeping().without_namespace(kind);
    let one = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let notify =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    for (bundle, expected) in [
        (Bundle::sleeping().set("/linux/gidMappings", one.clone()), "linux.gidMappings: "),
        (Bundle::sleeping().set("/linux/uidMappings", one.clone()), "linux.uidMappings: "),
        (Bundle::sleeping().namespace("user", None), "linux.uidMappings: "),
        (host("uts").set("/hostname", json!("x")), "hostname: \"x\""),
        (host("uts").set("/domainname", json!("x")), "domainname: \"x\""),
        (
            host("network").set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})),
            "linux.sysctl[\"net.ipv4.ip_forward\"]: ",
        ),
        (
            host("network").set("/linux/sysctl", json!({"net/ipv4/ip_forward": "1"})),
            "linux.sysctl[\"net/ipv4/ip_forward\"]: ",
        ),
        (host("ipc").set("/linux/sysctl", json!({"kernel.msgmax": "1"})), "linux.sysctl[\"kernel.msgmax\"]: "),
        (host("ipc").set("/linux/sysctl", json!({"fs.mqueue.msg_max": "1"})), "linux.sysctl[\"fs.mqueue.msg_max\"]: "),
        (host("uts").set("/linux/sysctl", json!({"kernel.domainname": "x"})), "linux.sysctl[\"kernel.domainname\"]: "),
        (Bundle::sleeping().set("/linux/timeOffsets", json!({"monotonic": {"secs": 1}})), "linux.timeOffsets: "),
        (host("network").set("/linux/netDevices", json!({"nodev0": {}})), "linux.netDevices: "),
        (host("mount").set("/linux/rootfsPropagation", json!("shared")), "linux.rootfsPropagation: "),
        (Bundle::sleeping().namespace("uts", Some("relative")), "linux.namespaces[5].path: \"relative\""),
        (Bundle::sleeping().set("/linux/seccomp", notify), "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY"),
        (Bundle::sleeping().set("/linux/maskedPaths", json!(["a"])), "linux.maskedPaths[0]: \"a\""),
        (Bundle::sleeping().set("/linux/readonlyPaths", json!(["/a", "b"])), "linux.readonlyPaths[1]: \"b\""),
        (Bundle::sleeping().set("/linux/devices", json!([{"path": "x", "type": "p"}])), "linux.devices[0].path: \"x\""),
        (
            Bundle::sleeping().set("/linux/devices", json!([{"path": "/dev/x", "type": "c"}])),
            "linux.devices[0].major: is missing",
        ),
        (Bundle::sleeping().set("/process/args", json!(["a\u{0}b"])), "process.args[0]: "),
        (Bundle::sleeping().set("/process/args", json!([""])), "process.args[0]: "),
        (Bundle::sleeping().set("/process/env", json!(["A=\u{0}"])), "process.env[0]: "),
        (Bundle::sleeping().set("/process/env", json!(["=x"])), "process.env[0]: "),
        (Bundle::sleeping().set("/process/cwd", json!("/a\u{0}")), "process.cwd: "),
        (Bundle::sleeping().set("/hostname", json!("x".repeat(65))), "hostname: "),
        (Bundle::sleeping().set("/hostname", json!("a\u{0}b")), "hostname: "),
        (Bundle::sleeping().set("/root/path", json!("a\u{0}b")), "root.path: "),
        (Bundle::sleeping().set("/process/user/umask", json!(0o1777)), "process.user.umask: "),
        (Bundle::sleeping().set("/process/user/uid", json!(u32::MAX)), "process.user.uid: "),
        (
            Bundle::sleeping().mapped(100_000).set("/process/user/additionalGids", json!([70_000])),
            "process.user.additionalGids[0]: ",
        ),
        (
            Bundle::sleeping()
                .set("/process/consoleSize", json!({"height": 70_000, "width": 1}))
                .set("/process/terminal", json!(true)),
            "process.consoleSize",
        ),
        (
            Bundle::sleeping().set(
                "/process/rlimits",
                json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 2, "hard": 2}]),
            ),
            "process.rlimits[1].type: ",
        ),
        (
            Bundle::sleeping().set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8})),
            "process.ioPriority.priority: 8",
        ),
        (Bundle::sleeping().set("/linux/resources/cpu", json!({"cpus": "x"})), "linux.resources.cpu.cpus: \"x\""),
        (Bundle::sleeping().set("/linux/resources/pids", json!({"limit": -2})), "linux.resources.pids.limit: -2"),
        (
            Bundle::sleeping().set("/linux/resources/memory", json!({"limit": 8 << 20, "swap": 4 << 20})),
            "linux.resources.memory.swap: ",
        ),
        (Bundle::sleeping().mount("relative", "tmpfs", "tmpfs", &[]), "mounts[6].destination: \"relative\""),
        (Bundle::sleeping().mount("/x", "tmpfs", "tmpfs", &["bad\u{0}"]), "mounts[6]"),
        (Bundle::sleeping().mount("/x\u{0}", "tmpfs", "tmpfs", &[]), "mounts[6].destination: "),
    ] {
        let error = refused(&bundle);
        assert!(error.starts_with(expected), "{expected} is not the begin of {error}");
        assert!(!error.contains('\u{0}'), "{error:?}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (pointer, expected) in [
        ("/ociVersion", "ociVersion: is missing"),
        ("/root", "root: is missing"),
        ("/root/path", "root.path: is missing"),
        ("/process/args", "process.args: is "),
        ("/process/cwd", "process.cwd: is missing"),
        ("/linux", "linux: is missing"),
        ("/linux/namespaces/0/type", "linux.namespaces[0].type: is missing"),
    ] {
        let error = refused(&Bundle::sleeping().without(pointer));
        assert!(error.starts_with(expected), "{pointer}: {error}");
    }
}

#[test]
fn all_faults_are_reported_together() {
    let bundle = Bundle::sleeping()
        .set("/process/cwd", json!("tmp"))
        .set("/process/oomScoreAdj", json!(5000))
        .set("/mounts/2/destination", json!("pts"))
        .set("/linux/resources/pids/limit", json!(-7))
        .set("/hooks/poststop", json!([{"path": "x"}]))
        .set("/root/path", json!("nowhere"));
    let error = refused(&bundle);
    for path in [
        "process.cwd: \"tmp\"",
        "process.oomScoreAdj: 5000",
        "mounts[2].destination: \"pts\"",
        "linux.resources.pids.limit: -7",
        "hooks.poststop[0].path: \"x\"",
        "root.path: \"nowhere\"",
    ] {
        assert_eq!(error.matches(path).count(), 1, "{path}: {error}");
    }
    assert_eq!(error.matches("; ").count(), 5, "{error}");
}

#[test]
fn a_root_that_links_to_the_hosts() {
    for target in ["/", "../../../../../../.."] {
        let bundle = Bundle::sleeping().set("/root/path", json!("link"));
        symlink(target, bundle.join("link")).unwrap();
        let error = refused(&bundle);
        assert_eq!(error, "root.path: \"link\" is the host's own root directory");
    }
    let error = refused(&Bundle::sleeping().set("/root/path", json!("/")));
    assert_eq!(error, "root.path: \"/\" is the host's own root directory");
}

#[test]
fn a_configuration_of_ten_megabytes_is_read_or_refused_within_the_limit() {
    // What is right is taken: annotations have no size of their own.
    let bundle = Bundle::running(&["/bin/true"]).set("/annotations", json!({"large": "x".repeat(10 << 20)}));
    bundle.run().ok();
    // Ten megabytes that are wrong all over.
    let wrong = json!(vec![json!({"destination": 5, "type": "x".repeat(1024)}); 10_000]);
    let bundle = Bundle::sleeping().set("/mounts", wrong);
    let error = bundle.create().refused();
    assert!(error.starts_with("mounts[0].destination: 5"), "{}", &error[..200.min(error.len())]);
    let text = format!("{}{}", "[".repeat(5 << 20), "]".repeat(5 << 20));
    assert!(text_refused(&text).starts_with("config.json: line 1 column "), "{LIMIT:?}");
}

#[test]
fn ids_that_are_none() {
    let bundle = Bundle::running(&["/bin/true"]);
    bundle.write();
    let path = bundle.path().to_str().unwrap();
    let long = "x".repeat(1025);
    for (id, expected) in [
        ("", "container id \"\" is empty"),
        (".", "container id \".\" is "),
        ("..", "container id \"..\" is "),
        ("a/b", "container id \"a/b\" has '/' in it"),
        ("../a", "container id \"../a\" has '/' in it"),
        ("a b", "container id \"a b\" has ' ' in it"),
        (&long, "container id: 1025 bytes are more than 1024"),
    ] {
        for command in ["create", "run"] {
            let error = bundle.call(&[command, "--bundle", path, id]).refused();
            assert!(error.starts_with(expected), "{id}: {error}");
        }
        assert_eq!(bundle.leftovers(), Vec::<String>::new());
    }
    // 256 bytes and more are an id, and no file can have that name.
    let error = bundle.call(&["run", "--bundle", path, &"x".repeat(300)]).refused();
    assert!(error.ends_with("(os error 36)"), "{error}");
}

#[test]
fn a_program_that_is_not_there() {
    for (program, expected) in [
        ("nonexistent", "exec: \"nonexistent\": executable file not found in $PATH"),
        ("/nonexistent", "exec: \"/nonexistent\": stat /nonexistent: no such file or directory (os error 2)"),
        ("./nonexistent", "exec: \"./nonexistent\": stat ./nonexistent: no such file or directory (os error 2)"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied (os error 13)"),
        ("/bin", "exec: \"/bin\": is a directory (os error 21)"),
    ] {
        assert_eq!(refused(&Bundle::running(&[program])), expected);
    }
}

#[test]
fn a_program_that_the_kernel_cannot_run() {
    let bundle = Bundle::running(&["/script"]);
    bundle.program("script", "no magic number");
    assert_eq!(bundle.run().refused(), "exec \"/script\": exec format error (os error 8)");
    bundle.assert_nothing_left();
    bundle.create().ok();
    let error = bundle.start().refused();
    assert_eq!(error, format!("start \"{}\": exec \"/script\": exec format error (os error 8)", bundle.id()));
}

#[test]
fn a_mount_source_that_is_not_there() {
    let bundle = Bundle::sleeping().mount("/x", "bind", "/nonexistent", &["rbind"]);
    let error = refused(&bundle);
    assert_eq!(error, "mounts[6].source: open \"/nonexistent\": no such file or directory (os error 2)");
}

#[test]
fn a_file_system_that_there_is_none() {
    let error = refused(&Bundle::sleeping().mount("/x", "nosuchfs", "x", &[]));
    assert!(error.starts_with("mounts[6]") && error.contains("nosuchfs"), "{error}");
    let error = refused(&Bundle::sleeping().mount("/x", "tmpfs", "x", &["frob=1"]));
    assert!(error.starts_with("mounts[6]") && error.contains("frob"), "{error}");
}

#[test]
fn a_store_that_cannot_be_made() {
    let bundle = Bundle::sleeping();
    bundle.write();
    let path = bundle.path().to_str().unwrap();
    let command = ["--root", "/proc/nowhere", "create", "--bundle", path, bundle.id()];
    let error = Outcome::of(std::process::Command::new(PROCRT).args(command)).refused();
    assert!(error.starts_with("make the container's directory in \"/proc/nowhere\": "), "{error}");
}

#[test]
fn a_path_that_is_no_utf_8() {
    let bundle = Bundle::sleeping();
    bundle.write();
    let odd = bundle.join("").join(std::ffi::OsStr::from_bytes(b"odd\xff"));
    std::fs::create_dir(&odd).unwrap();
    std::fs::copy(bundle.join("config.json"), odd.join("config.json")).unwrap();
    std::fs::create_dir(odd.join("rootfs")).unwrap();
    let mut create = bundle.command(&["create", "--bundle"]);
    let error = Outcome::of(create.arg(&odd).arg(bundle.id())).refused();
    assert!(error.starts_with("open bundle ") && error.ends_with("odd\\xFF\" is not UTF-8"), "{error}");
    symlink(odd.join("rootfs"), bundle.join("link")).unwrap();
    let error = refused(&bundle.set("/root/path", json!("link")));
    assert!(error.starts_with("root.path: \"link\": the path ") && error.ends_with(" is not UTF-8"), "{error}");
}

#[test]
fn a_namespace_that_is_a_fifo_is_not_waited_for() {
    let bundle = Bundle::sleeping();
    let fifo = bundle.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let fifo = fifo.to_str().unwrap().to_owned();
    let error = refused(&bundle.namespace("network", Some(&fifo)));
    assert_eq!(error, format!("linux.namespaces[5].path: \"{fifo}\" is not a namespace"));
}
