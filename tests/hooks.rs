//! Hooks: their order, namespaces and input, and what is undone when one fails.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Bundle, LIMIT, has_capability, skipped};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs `script` with the host's shell, or inside with busybox's, which is at the same path.
fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// A hook of every kind that appends its kind to `log` of the bundle; the one that runs inside, to `log` of the root.
fn logging(bundle: Bundle) -> Bundle {
    let path = bundle.path().to_str().unwrap().to_owned();
    KINDS.iter().fold(bundle, |bundle, kind| {
        let file = if *kind == "startContainer" { "/log".to_owned() } else { format!("{path}/log") };
        bundle.set(&format!("/hooks/{kind}"), json!([shell(&format!("echo {kind} >> {file}"))]))
    })
}

fn log_of(bundle: &Bundle) -> String {
    fs::read_to_string(bundle.join("log")).unwrap_or_default().replace('\n', " ")
}

#[test]
fn every_kind_runs_at_its_time() {
    let bundle = logging(Bundle::new("cp /log /log-at-start; exec sleep 1000"));
    bundle.create().ok();
    assert_eq!(log_of(&bundle), "prestart createRuntime createContainer ");
    assert!(!bundle.inside("log").exists());
    bundle.start().ok();
    assert_eq!(log_of(&bundle), "prestart createRuntime createContainer poststart ");
    assert_eq!(bundle.wait_for_file("log-at-start"), "startContainer");
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    assert_eq!(log_of(&bundle), "prestart createRuntime createContainer poststart ");
    bundle.delete(&[]).ok();
    assert_eq!(log_of(&bundle), "prestart createRuntime createContainer poststart poststop ");
}

#[test]
fn run_runs_all_of_them() {
    let bundle = logging(Bundle::running(&["/bin/true"]));
    bundle.run().ok();
    assert_eq!(log_of(&bundle), "prestart createRuntime createContainer poststart poststop ");
    assert_eq!(fs::read_to_string(bundle.inside("log")).unwrap(), "startContainer\n");
}

#[test]
fn hooks_on_the_hosts_side_have_the_callers_umask() {
    let bundle = Bundle::running(&["/bin/true"]);
    let path = bundle.path().to_str().unwrap().to_owned();
    let hook = shell(&format!("umask >> {path}/log"));
    let bundle = ["createRuntime", "createContainer", "poststop"]
        .iter()
        .fold(bundle, |bundle, kind| bundle.set(&format!("/hooks/{kind}"), json!([hook])));
    let run = bundle.making("run", &[]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 037; exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args()).current_dir("/");
    support::Outcome::of(&mut shell).ok();
    assert_eq!(log_of(&bundle), "0037 0037 0037 ");
}

#[test]
fn hooks_of_a_kind_run_in_their_order() {
    let bundle = Bundle::running(&["/bin/true"]);
    let path = bundle.path().to_str().unwrap().to_owned();
    let step = |number: u32| shell(&format!("echo {number} >> {path}/log"));
    let bundle = bundle.set("/hooks/createRuntime", json!([step(1), step(2), step(3)]));
    bundle.run().ok();
    assert_eq!(log_of(&bundle), "1 2 3 ");
}

#[test]
fn each_kind_has_its_namespaces() {
    let bundle = Bundle::new("readlink /proc/self/ns/mnt > /mnt-program");
    let path = bundle.path().to_str().unwrap().to_owned();
    let print = "readlink /proc/self/ns/mnt; readlink /proc/self/ns/pid; pwd";
    let bundle =
        ["prestart", "createRuntime", "createContainer", "poststart", "poststop"].iter().fold(bundle, |b, kind| {
            b.set(&format!("/hooks/{kind}"), json!([shell(&format!("({print}) > {path}/{kind}"))]))
        });
    let bundle = bundle.set("/hooks/startContainer", json!([shell(&format!("({print}) > /inside"))]));
    bundle.run().ok();
    let of = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(bundle.join(name)).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(of(kind), [own("mnt"), own("pid"), path.clone()], "{kind}");
    }
    // In the container's namespaces, and before pivot_root: it has written to the bundle by the host's path.
    let program = of("rootfs/mnt-program").remove(0);
    let before = of("createContainer");
    assert_eq!((&before[0], &before[2]), (&program, &path));
    let inside = of("rootfs/inside");
    assert_eq!((&inside[0], inside[2].as_str()), (&program, "/"));
    assert_ne!(inside[1], own("pid"));
}

#[test]
fn the_root_is_mounted_when_the_hooks_of_create_run() {
    let bundle = Bundle::running(&["/bin/true"]);
    let path = bundle.path().to_str().unwrap().to_owned();
    // Through /proc/PID/root and by its own view alike, a hook that prepares the root finds it.
    let script = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); test -d /proc/$pid/ns";
    let bundle = bundle
        .set("/hooks/createRuntime", json!([shell(script)]))
        .set("/hooks/createContainer", json!([shell(&format!("test -d {path}/rootfs/bin"))]));
    bundle.run().ok();
}

#[test]
fn every_hook_reads_the_state_of_its_moment() {
    let bundle = Bundle::sleeping().set("/annotations", json!({"org.example": "yes"}));
    let path = bundle.path().to_str().unwrap().to_owned();
    let bundle = KINDS.iter().fold(bundle, |bundle, kind| {
        let file = if *kind == "startContainer" { format!("/{kind}") } else { format!("{path}/rootfs/{kind}") };
        bundle.set(&format!("/hooks/{kind}"), json!([shell(&format!("cat > {file}"))]))
    });
    bundle.create().ok();
    bundle.start().ok();
    let pid = bundle.pid();
    bundle.delete(&["--force"]).ok();
    for (kind, status) in KINDS.iter().zip(["created", "created", "created", "created", "running", "stopped"]) {
        let state: Value = serde_json::from_str(&fs::read_to_string(bundle.inside(kind)).unwrap()).unwrap();
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["id"], bundle.id(), "{kind}");
        assert_eq!(state["bundle"], path, "{kind}");
        assert_eq!(state["ociVersion"], "1.3.0", "{kind}");
        assert_eq!(state["annotations"], json!({"org.example": "yes"}), "{kind}");
        let expected = if *kind == "poststop" { Value::Null } else { pid.into() };
        assert_eq!(state.get("pid").cloned().unwrap_or_default(), expected, "{kind}");
    }
}

#[test]
fn a_hook_has_its_own_arguments_and_environment() {
    let bundle = Bundle::running(&["/bin/true"]);
    let path = bundle.path().to_str().unwrap().to_owned();
    let script = format!("echo \"$0 $1 $ONLY\" > {path}/log; env >> {path}/log");
    let hook = json!({"path": "/bin/sh", "args": ["called", "-c", script, "zero", "one"], "env": ["ONLY=this"]});
    let bundle = bundle.set("/hooks/prestart", json!([hook]));
    bundle.run().ok();
    let text = fs::read_to_string(bundle.join("log")).unwrap();
    assert_eq!(text.lines().next(), Some("zero one this"));
    assert!(!text.contains("HOME=") && !text.contains("CARGO"), "{text}");
}

#[test]
fn every_kind_has_its_program_arguments_and_environment() {
    // A program that is on the host and inside alike, and says how it was called.
    let bundle = Bundle::running(&["/bin/true"]);
    let path = bundle.path().to_str().unwrap().to_owned();
    let program = bundle.join("rootfs/tool");
    bundle.program("tool", "#!/bin/sh\necho \"$0 $# $1 $2\" > \"$OUT\"; /bin/busybox env >> \"$OUT\"\n");
    let bundle = KINDS.iter().fold(bundle, |bundle, kind| {
        let inside = *kind == "startContainer";
        let file = if inside { format!("/{kind}") } else { format!("{path}/{kind}") };
        let program = if inside { "/tool" } else { program.to_str().unwrap() };
        let env = [format!("OUT={file}"), format!("KIND={kind}"), "EMPTY=".to_owned()];
        bundle.set(&format!("/hooks/{kind}"), json!([{"path": program, "args": ["x", *kind, "a  b"], "env": env}]))
    });
    bundle.run().ok();
    for kind in KINDS {
        let inside = kind == "startContainer";
        let text = fs::read_to_string(if inside { bundle.inside(kind) } else { bundle.join(kind) }).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        // A script's name is its path, whatever the first argument says.
        let name = if inside { "/tool" } else { program.to_str().unwrap() };
        assert_eq!(first, format!("{name} 2 {kind} a  b"));
        // Beside what shells add.
        let mut environment: Vec<&str> = rest
            .lines()
            .filter(|line| {
                !["PWD", "SHLVL", "_", "OLDPWD", "PATH"].iter().any(|own| line.starts_with(&format!("{own}=")))
            })
            .collect();
        environment.sort_unstable();
        assert_eq!(environment.len(), 3, "{kind}: {rest}");
        assert_eq!(environment[..2], ["EMPTY=", &format!("KIND={kind}")], "{kind}");
    }
}

#[test]
fn a_hook_that_fails_undoes_the_container() {
    for kind in &KINDS[..5] {
        let bundle = Bundle::sleeping();
        let path = bundle.path().to_str().unwrap().to_owned();
        let bundle = bundle
            .set(
                &format!("/hooks/{kind}"),
                json!([shell("true"), shell("echo no luck >&2; exit 3"), shell("touch /third")]),
            )
            .set("/hooks/poststop", json!([shell(&format!("echo poststop >> {path}/log"))]));
        let expected = format!("hook {kind}[1] \"/bin/sh\": exit status 3: no luck");
        let at_start = ["startContainer", "poststart"].contains(kind);
        if at_start {
            bundle.create().ok();
            let error = bundle.start().refused();
            assert!(error.ends_with(&expected), "{kind}: {error}");
        } else {
            assert_eq!(bundle.create().refused(), expected);
        }
        bundle.assert_nothing_left();
        assert_eq!(log_of(&bundle), "poststop ", "{kind}");
        assert_eq!(bundle.run().refused(), expected);
        bundle.assert_nothing_left();
        assert_eq!(log_of(&bundle), "poststop poststop ", "{kind}");
        assert!(!bundle.inside("third").exists());
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed_and_undoes_the_container() {
    for kind in &KINDS[..5] {
        let mut hook = shell("sleep 1000");
        hook["timeout"] = json!(1);
        let bundle = Bundle::sleeping().set(&format!("/hooks/{kind}"), json!([hook]));
        let begun = Instant::now();
        assert_eq!(bundle.run().refused(), format!("hook {kind}[0] \"/bin/sh\": killed, not having ended within 1 s"));
        assert!((Duration::from_secs(1)..LIMIT / 2).contains(&begun.elapsed()), "{kind}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_hook_after_the_end_that_takes_too_long_is_killed_with_a_warning() {
    let mut hook = shell("sleep 1000");
    hook["timeout"] = json!(1);
    let bundle = Bundle::running(&["/bin/true"]).set("/hooks/poststop", json!([hook]));
    let outcome = bundle.run();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(
        outcome.stderr.contains("hook poststop[0] \"/bin/sh\": killed, not having ended within 1 s"),
        "{outcome:?}"
    );
}

#[test]
fn a_hook_without_an_end_holds_up_nobody_who_deletes_the_container() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::sleeping();
        let begun = bundle.join("begun");
        let script = format!("touch {}; exec sleep 1000", begun.display());
        let bundle = bundle.set(&format!("/hooks/{kind}"), json!([shell(&script)]));
        let creating = support::Running::start(&mut bundle.making("create", &[]));
        support::wait_until("the hook", || begun.exists());
        let since = Instant::now();
        bundle.delete(&["--force"]).ok();
        assert!(since.elapsed() < LIMIT / 4, "{kind}");
        let error = creating.finish().refused();
        assert!(error.contains("ended") || error.contains("killed by signal 9"), "{kind}: {error}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_hook_that_is_not_there_undoes_the_container() {
    for kind in &KINDS[..5] {
        let bundle = Bundle::sleeping().set(&format!("/hooks/{kind}"), json!([{"path": "/nonexistent"}]));
        // What runs while the container is created is looked for before anything of it is made.
        let place = if *kind == "startContainer" || *kind == "poststart" {
            format!("hook {kind}[0] ")
        } else {
            format!("hooks.{kind}[0].path: ")
        };
        assert_eq!(bundle.run().refused(), format!("{place}\"/nonexistent\": no such file or directory (os error 2)"));
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_hook_that_fails_after_the_end_is_a_warning_and_the_others_run() {
    let bundle = Bundle::sleeping();
    let path = bundle.path().to_str().unwrap().to_owned();
    let last = shell(&format!("echo last >> {path}/log"));
    let bundle = bundle.set("/hooks/poststop", json!([shell("exit 9"), {"path": "/nonexistent"}, last]));
    bundle.create().ok();
    let outcome = bundle.delete(&["--force"]);
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    for expected in ["hook poststop[0]", "exit status 9", "\"/nonexistent\""] {
        assert!(outcome.stderr.contains(expected), "{expected}: {outcome:?}");
    }
    assert_eq!(log_of(&bundle), "last ");
    bundle.assert_nothing_left();
}

#[test]
fn a_program_that_is_not_there_runs_the_hooks_for_after_the_end() {
    let bundle = logging(Bundle::running(&["/nonexistent"]));
    bundle.create().refused();
    assert_eq!(log_of(&bundle), "prestart createRuntime createContainer poststop ");
}

#[test]
fn a_hook_inside_has_the_containers_privileges_alone() {
    let bundle = Bundle::running(&["/bin/true"])
        .capabilities(&["CAP_KILL"])
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .set("/hooks/startContainer", json!([shell("cat /proc/self/status > /tmp/status")]));
    bundle.run().ok();
    let status = fs::read_to_string(bundle.inside("tmp/status")).unwrap();
    assert!(status.contains("Uid:\t1000") && status.contains("CapBnd:\t0000000000000020"), "{status}");
    if !has_capability(21) {
        skipped("without CAP_SYS_ADMIN there is less to be given up");
    }
}
