//! What a container must not reach of the host, whatever its image and its other processes try.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;
use support::container::Container;
use support::{Bundle, Outcome, busybox, install};

/// The kernel looks a program up, and what its `#!` line names, before it closes what is closed at execve: a directory of
/// the host's that is open then leads to all of the host, and to its programs by `/proc/self/exe`.
#[test]
fn no_program_of_the_hosts_is_reached_through_a_descriptor() {
    let hosts = tempfile::tempdir().unwrap();
    let program = hosts.path().join("program");
    install(&busybox(), &program);
    let container = Container::sleeping();
    for number in 3..16 {
        // Above the host's root is the host's root: one path leads there from any of its directories.
        let through = format!("/proc/self/fd/{number}{}{}", "/..".repeat(30), program.display());
        let bundle = Bundle::running(&[&through, "echo", "reached"]);
        let by_script = Bundle::running(&["/script"]);
        by_script.program("script", &format!("#!{through} echo\n"));
        container.program("script", &format!("#!{through} echo\n"));
        let calls = [
            bundle.run(),
            by_script.run(),
            container.exec(&[&through, "echo", "reached"]),
            container.exec(&["/script"]),
        ];
        for outcome in calls {
            assert_eq!(outcome.stdout, "", "{through}: {outcome:?}");
            let there_is_none = outcome.stderr.contains("no such file") || outcome.stderr.contains("not a directory");
            assert!(outcome.code() != 0 && there_is_none, "{through}: {outcome:?}");
        }
    }
}

#[test]
fn procrt_runs_from_a_copy_where_its_own_file_cannot_be_mounted() {
    let bundle = Bundle::new("ls -l /proc/self/exe; echo ran");
    let run = bundle.making("run", &[]);
    // Its file is one of another mount namespace then; and of none, when it is a copy in memory itself.
    let script = "exec 9<\"$0\"; exec unshare --mount sh -c 'exec /proc/self/fd/9 \"$@\"' sh \"$@\"";
    let mut elsewhere = std::process::Command::new("sh");
    elsewhere.args(["-c", script]).arg(run.get_program()).args(run.get_args()).current_dir("/");
    let text = Outcome::of(&mut elsewhere).ok();
    assert!(text.ends_with("\nran"), "{text}");
}

/// However long it waits for `start`, beside processes of other containers that share its PID namespace.
#[test]
fn a_process_that_waits_to_be_started_has_nothing_open_that_leads_to_the_host() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    let pid = bundle.pid();
    let open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !["0", "1", "2"].contains(&entry.file_name().to_str().unwrap()))
        .map(|entry| fs::read_link(entry.path()).unwrap().display().to_string())
        .collect();
    let gate = bundle.store().join(bundle.id()).join("start").display().to_string();
    // The host's procfs, detached from the host's mounts, is what the gate is opened through.
    let harmless = |path: &String| *path == gate || path == "/" || path.starts_with("socket:");
    assert!(open.iter().all(harmless), "{open:?}");
    bundle.delete(&[]).ok();
}

#[test]
fn a_process_that_waits_to_be_started_is_no_business_of_others_of_its_user() {
    // All that a process of a user, also root, has in /proc is then the host's superuser's, and needs CAP_SYS_PTRACE.
    for user in [0, 1000] {
        let bundle = Bundle::sleeping().set("/process/user", serde_json::json!({"uid": user, "gid": user}));
        bundle.create().ok();
        let waiting = bundle.pid();
        let other = Bundle::new(&format!(
            "ls /proc/{waiting}/fd/3/; cat /proc/{waiting}/environ >/dev/null; ls /proc/{waiting}/root/"
        ))
        .without_namespace("pid")
        .set("/process/user", serde_json::json!({"uid": user, "gid": user}));
        let outcome = other.run();
        assert_eq!(outcome.stdout, "", "{outcome:?}");
        assert_eq!(outcome.stderr.matches("Permission denied").count(), 3, "{outcome:?}");
        bundle.delete(&[]).ok();
    }
}

/// The lock on a container is an open file's, and whoever inherits that holds it.
#[test]
fn a_created_containers_process_does_not_hold_its_lock() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let inode = fs::metadata(bundle.store().join(bundle.id())).unwrap().ino().to_string();
    assert!(!locks.lines().any(|line| line.contains(&format!(":{inode} "))), "{locks}");
    let pid = bundle.pid();
    let directory = bundle.store().join(bundle.id());
    let held = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    assert!(!held.map(|fd| fs::read_link(fd.unwrap().path()).unwrap()).any(|path| path == directory));
    bundle.delete(&[]).ok();
}

/// Whoever has all capabilities in a user namespace may look into the processes of that namespace, unless they are kept from
/// it; where its root is the host's root, becoming that does not do it.
#[test]
fn a_process_on_its_way_into_a_user_namespace_is_not_looked_into_from_there() {
    let owner = Container::of(Bundle::sleeping().mapped(0));
    let bundle = Bundle::running(&["/bin/true"]);
    let log = bundle.join("log");
    // The hook has the namespace's capabilities, and the host's procfs.
    let script = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); test -d /proc/$pid && (readlink /proc/$pid/root || echo no) >{}",
        log.display()
    );
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]);
    let bundle = ["user", "pid"]
        .iter()
        .fold(bundle, |bundle, kind| bundle.namespace(kind, Some(&format!("/proc/{}/ns/{kind}", owner.pid()))));
    let bundle = bundle.without_mount("/sys").without_mount("/dev/mqueue").set("/hooks/createContainer", hook);
    bundle.run().ok();
    assert_eq!(fs::read_to_string(log).unwrap(), "no\n");
}
