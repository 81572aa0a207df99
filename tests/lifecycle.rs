//! The life of a container, as engines drive it: create, start, state, kill, delete, and run.

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use serde_json::{Value, json};
use support::{Bundle, Running, skipped, wait_until};

#[test]
fn create_start_kill_and_delete_lead_through_the_states() {
    let bundle = Bundle::sleeping();
    assert_eq!(bundle.create().ok(), "");
    assert_eq!(bundle.status(), "created");
    assert_eq!(bundle.start().ok(), "");
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.kill("KILL").ok(), "");
    bundle.wait_for_status("stopped");
    assert_eq!(bundle.delete(&[]).ok(), "");
    let error = bundle.call(&["state", bundle.id()]).refused();
    assert_eq!(error, format!("\"{}\": container does not exist", bundle.id()));
}

#[test]
fn the_program_does_not_run_before_start() {
    let bundle = Bundle::new("echo ran > /out; exec sleep 1000");
    bundle.create().ok();
    std::thread::sleep(Duration::from_millis(50));
    assert!(!bundle.inside("out").exists());
    bundle.start().ok();
    assert_eq!(bundle.wait_for_file("out"), "ran");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn the_state_has_the_specifications_fields_and_runcs() {
    let bundle = Bundle::sleeping().set("/annotations", json!({"org.example.key": "value"}));
    bundle.create().ok();
    let state = bundle.state();
    let path = bundle.path().to_str().unwrap();
    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!(state["id"], bundle.id());
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], path);
    assert_eq!(state["rootfs"], format!("{path}/rootfs"));
    assert_eq!(state["annotations"], json!({"org.example.key": "value"}));
    assert_eq!(state["owner"], "root");
    let created = state["created"].as_str().unwrap();
    assert!(created.starts_with("20") && created.contains('T') && created.ends_with('Z'), "{created}");
    let pid = state["pid"].as_i64().unwrap();
    assert!(fs::metadata(format!("/proc/{pid}")).is_ok());
    bundle.start().ok();
    assert_eq!(bundle.state()["pid"], pid);
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    let state = bundle.state();
    assert_eq!((&state["pid"], &state["created"]), (&json!(0), &json!(created)));
    bundle.delete(&[]).ok();
}

#[test]
fn list_shows_every_container_as_table_json_or_ids() {
    let bundle = Bundle::sleeping();
    assert_eq!(bundle.call(&["list", "--quiet"]).ok(), "");
    assert_eq!(bundle.call(&["list", "--format", "json"]).ok(), "[]");
    bundle.create().ok();
    let pid = bundle.pid().to_string();
    let table = bundle.call(&["list"]).ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(rows[1][..4], [bundle.id(), &pid, "created", bundle.path().to_str().unwrap()]);
    assert_eq!(rows.len(), 2);
    let list: Value = serde_json::from_str(&bundle.call(&["list", "--format", "json"]).ok()).unwrap();
    assert_eq!(list, json!([bundle.state()]));
    assert_eq!(bundle.call(&["list", "-q"]).ok(), bundle.id());
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_container_whose_state_cannot_be_read_does_not_hide_the_others() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    let broken = bundle.store().join("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("state.json"), "{}\n").unwrap();
    let outcome = bundle.call(&["list", "--quiet"]);
    assert!(outcome.stderr.starts_with("procrt: read the state of \"broken\": missing field"), "{outcome:?}");
    assert_eq!(outcome.ok(), bundle.id());
    fs::remove_dir_all(broken).unwrap();
    bundle.delete(&[]).ok();
}

#[test]
fn a_container_is_started_once() {
    let bundle = Bundle::sleeping();
    let error = bundle.start().refused();
    assert_eq!(error, format!("\"{}\": container does not exist", bundle.id()));
    bundle.create().ok();
    bundle.start().ok();
    let error = bundle.start().refused();
    assert_eq!(error, format!("start \"{}\": cannot start a container in the running state", bundle.id()));
    assert_eq!(bundle.status(), "running");
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    let error = bundle.start().refused();
    assert_eq!(error, format!("start \"{}\": cannot start a container that has stopped", bundle.id()));
    bundle.delete(&[]).ok();
}

#[test]
fn a_container_whose_process_is_killed_at_its_gate_is_not_started() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    let pid = nix::unistd::Pid::from_raw(bundle.pid() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    // Until then it is on its way through the gate, and could be killed behind it.
    wait_until("the stop", || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T "));
    let start = Running::start(&mut bundle.command(&["start", bundle.id()]));
    wait_until("the open gate", || !bundle.store().join(bundle.id()).join("start").exists());
    bundle.kill("KILL").ok();
    let error = start.finish().refused();
    let sentence = "the container's process was ended before it could be started";
    assert_eq!(error, format!("start \"{}\": {sentence}", bundle.id()));
    bundle.assert_nothing_left();
}

#[test]
fn a_running_container_is_deleted_only_by_force() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    bundle.start().ok();
    let error = bundle.delete(&[]).refused();
    assert!(error.contains("cannot delete container that is not stopped: it is running"), "{error}");
    assert_eq!(bundle.status(), "running");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_created_container_is_deleted_with_and_without_force() {
    for options in [&[][..], &["--force"]] {
        let bundle = Bundle::sleeping();
        bundle.create().ok();
        bundle.delete(options).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn deleting_what_is_not_there_fails_unless_forced() {
    let bundle = Bundle::sleeping();
    assert_eq!(bundle.delete(&[]).refused(), format!("\"{}\": container does not exist", bundle.id()));
    assert_eq!(bundle.delete(&["--force"]).ok(), "");
}

#[test]
fn killing_a_stopped_container_says_that_it_is_not_running() {
    let bundle = Bundle::running(&["/bin/true"]);
    bundle.create().ok();
    bundle.start().ok();
    bundle.wait_for_status("stopped");
    for signal in ["TERM", "KILL", "0"] {
        // Engines look for these words.
        assert_eq!(bundle.kill(signal).refused(), format!("kill \"{}\": container not running", bundle.id()));
    }
    bundle.delete(&[]).ok();
    assert_eq!(bundle.kill("KILL").refused(), format!("\"{}\": container does not exist", bundle.id()));
}

#[test]
fn a_created_container_can_be_killed() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn an_id_that_is_in_use_is_refused_and_its_container_unharmed() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    bundle.start().ok();
    let before = bundle.state();
    for outcome in [bundle.create(), bundle.run()] {
        let error = outcome.refused();
        assert_eq!(error, format!("create \"{}\": container with given ID already exists", bundle.id()));
    }
    assert_eq!(bundle.state(), before);
    bundle.delete(&["--force"]).ok();
}

#[test]
fn run_answers_the_programs_own_exit_status() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
        assert_eq!(Bundle::new(script).run().code(), code, "{script}");
    }
}

#[test]
fn run_answers_128_and_the_signal_that_ended_the_program() {
    // The first process of a PID namespace cannot signal itself to death.
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let bundle = Bundle::new(&format!("kill -{signal} $$")).without_namespace("pid");
        assert_eq!(bundle.run().code(), code, "{signal}");
    }
    let bundle = Bundle::sleeping();
    let running = Running::start(&mut bundle.making("run", &[]));
    bundle.wait_for_status("running");
    bundle.kill("KILL").ok();
    assert_eq!(running.finish().code(), 137);
}

#[test]
fn signals_to_run_are_the_containers() {
    let bundle = Bundle::new("trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    let running = Running::start(&mut bundle.making("run", &[]));
    wait_until("the trap", || running.stdout().contains("ready"));
    signal::kill(running.pid(), Signal::SIGTERM).unwrap();
    let outcome = running.finish();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (5, "ready\ngot it\n"));
}

#[test]
fn signals_are_sent_by_name_and_by_number() {
    let script = "for s in HUP USR1 USR2 TERM; do trap \"echo $s >> /out\" $s; done; echo ready > /out; \
                  while :; do sleep 0.01; done";
    let bundle = Bundle::new(script);
    bundle.create().ok();
    bundle.start().ok();
    let mut expected = bundle.wait_for_file("out");
    for (signal, name) in [
        ("SIGUSR1", "USR1"),
        ("usr2", "USR2"),
        ("1", "HUP"),
        ("10", "USR1"),
        ("SigHup", "HUP"),
        ("TERM", "TERM"),
        ("15", "TERM"),
    ] {
        bundle.kill(signal).ok();
        expected = format!("{expected}\n{name}");
        wait_until(name, || fs::read_to_string(bundle.inside("out")).unwrap().trim_end() == expected);
    }
    // Without a name it is TERM; and 0 only asks.
    bundle.call(&["kill", bundle.id()]).ok();
    expected = format!("{expected}\nTERM");
    wait_until("TERM", || fs::read_to_string(bundle.inside("out")).unwrap().trim_end() == expected);
    bundle.kill("0").ok();
    assert_eq!(bundle.kill("NOSUCH").refused(), "\"NOSUCH\" is not a signal's name or number");
    assert_eq!(bundle.status(), "running");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn kill_all_reaches_every_process() {
    let script = "for i in 1 2 3; do (trap 'echo x >> /out' USR1; echo r >> /ready; while :; do sleep 0.01; done) & done; \
                  trap 'echo x >> /out' USR1; echo r >> /ready; while :; do sleep 0.01; done";
    let bundle = Bundle::new(script).without_namespace("pid");
    bundle.create().ok();
    bundle.start().ok();
    wait_until("four processes", || {
        fs::read_to_string(bundle.inside("ready")).is_ok_and(|text| text == "r\n".repeat(4))
    });
    bundle.call(&["kill", "--all", bundle.id(), "USR1"]).ok();
    wait_until("four signals", || fs::read_to_string(bundle.inside("out")).is_ok_and(|text| text == "x\n".repeat(4)));
    bundle.call(&["kill", "--all", bundle.id(), "0"]).ok();
    assert_eq!(bundle.status(), "running");
    bundle.call(&["kill", "--all", bundle.id(), "RTMAX-1"]).ok();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn processes_that_outlive_the_first_are_ended_by_delete() {
    let bundle = Bundle::new("sleep 1000 & echo done > /out").without_namespace("pid");
    bundle.create().ok();
    bundle.start().ok();
    bundle.wait_for_status("stopped");
    assert!(bundle.leftovers().iter().any(|left| left.starts_with("process")));
    bundle.delete(&[]).ok();
}

#[test]
fn the_pid_file_has_the_first_processs_pid() {
    let bundle = Bundle::sleeping();
    let file = bundle.join("pid");
    bundle.create_with(&["--pid-file", file.to_str().unwrap()]).ok();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, bundle.pid().to_string());
    let status = fs::read_to_string(format!("/proc/{text}/status")).unwrap();
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    assert_eq!(inside.split_whitespace().last(), Some("1"));
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_pid_file_that_cannot_be_written_undoes_the_container() {
    let bundle = Bundle::sleeping();
    let error = bundle.create_with(&["--pid-file", "/nonexistent/pid"]).refused();
    assert_eq!(error, "write the pid file \"/nonexistent/pid\": no such file or directory (os error 2)");
    let directory = bundle.join("pids/pid");
    fs::create_dir_all(&directory).unwrap();
    let error = bundle.create_with(&["--pid-file", directory.to_str().unwrap()]).refused();
    assert!(error.ends_with("is a directory (os error 21)"), "{error}");
    assert_eq!(fs::read_dir(bundle.join("pids")).unwrap().count(), 1);
    bundle.assert_nothing_left();
}

#[test]
fn run_detached_returns_while_the_container_runs() {
    let bundle = Bundle::sleeping();
    let file = bundle.join("pid");
    assert_eq!(bundle.run_with(&["--detach", "--pid-file", file.to_str().unwrap()]).ok(), "");
    assert_eq!(bundle.status(), "running");
    assert_eq!(fs::read_to_string(&file).unwrap(), bundle.pid().to_string());
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

/// Nothing of procrt's waits between its last look at the container's process and letting it go: strace makes it.
#[test]
fn a_container_that_is_killed_before_run_lets_it_go_leaves_nothing() {
    let bundle = Bundle::sleeping();
    let run = bundle.making("run", &["--detach"]);
    // Time for some calls, on this machine.
    let since = Instant::now();
    bundle.call(&["list"]).ok();
    let delay = (since.elapsed() * 20).max(Duration::from_millis(500)).as_micros();
    let mut slow = Command::new("strace");
    slow.args(["-o", "/dev/null", "-e", &format!("inject=sendmsg:delay_enter={delay}")]);
    slow.arg(run.get_program()).args(run.get_args()).current_dir("/").stdin(Stdio::null());
    if Command::new("strace").args(["-o", "/dev/null", "true"]).status().map_or(true, |status| !status.success()) {
        return skipped("there is no strace, or it may not trace");
    }
    let running = Running::start(&mut slow);
    bundle.wait_for_status("running");
    bundle.kill("KILL").ok();
    let outcome = running.finish();
    assert!(outcome.code() == 1 && outcome.stderr.contains("broken pipe"), "{outcome:?}");
    bundle.assert_nothing_left();
}

#[test]
fn run_with_keep_leaves_a_stopped_container() {
    let bundle = Bundle::new("exit 3");
    assert_eq!(bundle.run_with(&["--keep"]).code(), 3);
    assert_eq!(bundle.status(), "stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn run_leaves_nothing_of_a_container_that_was_deleted_meanwhile() {
    let bundle = Bundle::sleeping();
    let running = Running::start(&mut bundle.making("run", &[]));
    bundle.wait_for_status("running");
    bundle.delete(&["--force"]).ok();
    assert_eq!(running.finish().code(), 137);
}

#[test]
fn a_configuration_that_is_changed_after_create_has_no_effect() {
    let bundle = Bundle::new("echo old > /out");
    bundle.create().ok();
    bundle.write_text(&bundle.config.to_string().replace("old", "new"));
    bundle.start().ok();
    assert_eq!(bundle.wait_for_file("out"), "old");
    bundle.wait_for_status("stopped");
    fs::remove_file(bundle.join("config.json")).unwrap();
    bundle.delete(&[]).ok();
}

#[test]
fn no_command_reads_the_configuration_again() {
    let bundle = Bundle::new("echo old > /out; exec sleep 1000").set("/process/env/-", json!("WHICH=old"));
    let hook = |name: &str| {
        let script = format!("echo old >> {}", bundle.join(name).display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}])
    };
    let (poststart, poststop) = (hook("poststart"), hook("poststop"));
    let bundle = bundle.set("/hooks/poststart", poststart).set("/hooks/poststop", poststop);
    bundle.create().ok();
    for after in [Some(bundle.config.to_string().replace("old", "new")), Some("{]".to_owned()), None] {
        match after {
            Some(text) => bundle.write_text(&text),
            None => fs::remove_file(bundle.join("config.json")).unwrap(),
        }
        if bundle.status() == "created" {
            bundle.start().ok();
            assert_eq!(bundle.wait_for_file("out"), "old");
            assert_eq!(fs::read_to_string(bundle.join("poststart")).unwrap(), "old\n");
        }
        assert_eq!(bundle.call(&["exec", bundle.id(), "sh", "-c", "echo $WHICH"]).ok(), "old");
        bundle.call(&["update", "--pids-limit", "50", bundle.id()]).ok();
        bundle.call(&["pause", bundle.id()]).ok();
        assert_eq!(bundle.status(), "paused");
        let list: Value = serde_json::from_str(&bundle.call(&["list", "-f", "json"]).ok()).unwrap();
        assert_eq!((&list[0]["status"], &list[0]["pid"]), (&json!("paused"), &json!(bundle.pid())));
        bundle.call(&["resume", bundle.id()]).ok();
        bundle.call(&["ps", "-f", "json", bundle.id()]).ok();
    }
    bundle.delete(&["--force"]).ok();
    assert_eq!(fs::read_to_string(bundle.join("poststop")).unwrap(), "old\n");
}

#[test]
fn hooks_see_the_status_of_their_step_in_the_lifecycle() {
    let names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let mut bundle = Bundle::new("true");
    for name in names {
        let script = format!("cat > {}", bundle.join(name).display());
        bundle = bundle.set(&format!("/hooks/{name}"), json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]));
    }
    bundle.create().ok();
    bundle.start().ok();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
    let statuses = names.map(|name| {
        let state: serde_json::Value = serde_json::from_slice(&fs::read(bundle.join(name)).unwrap()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    });
    assert_eq!(statuses, ["created", "created", "created", "running", "stopped"]);
}

#[test]
fn a_container_without_a_process_is_created_and_ends_at_start() {
    let bundle = Bundle::sleeping().without("/process");
    assert_eq!(bundle.run().refused(), "process: is missing");
    bundle.create().ok();
    assert_eq!(bundle.status(), "created");
    let started = bundle.start();
    assert!(started.stderr.contains("process: is missing"), "{started:?}");
    started.ok();
    assert_eq!(bundle.status(), "stopped");
    bundle.start().refused();
    bundle.delete(&[]).ok();
}

#[test]
fn several_verbs_at_once_leave_one_winner() {
    let bundle = Bundle::sleeping();
    let creating: Vec<Running> = (0..4).map(|_| Running::start(&mut bundle.making("create", &[]))).collect();
    let codes: Vec<i32> = creating.into_iter().map(|running| running.finish().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    let starting: Vec<Running> = (0..4).map(|_| Running::start(&mut bundle.command(&["start", bundle.id()]))).collect();
    let codes: Vec<i32> = starting.into_iter().map(|running| running.finish().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    let deleting: Vec<Running> =
        (0..4).map(|_| Running::start(&mut bundle.command(&["delete", "--force", bundle.id()]))).collect();
    for running in deleting {
        running.finish().ok();
    }
}

/// Every command that makes a container is killed at 25 moments spread over the time that it takes.
#[test]
fn what_a_killed_procrt_leaves_is_removed_by_force() {
    let bundle = Bundle::sleeping();
    let begun = Instant::now();
    bundle.create().ok();
    let whole = begun.elapsed();
    bundle.delete(&["--force"]).ok();
    for moment in 0..50 {
        let command = if moment % 2 == 0 { "create" } else { "run" };
        let mut child = bundle.making(command, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * moment / 40);
        child.kill().unwrap();
        child.wait().unwrap();
        bundle.delete(&["--force"]).ok();
        bundle.assert_nothing_left();
    }
}
