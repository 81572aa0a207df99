//! Many processes that join a container at once, of every kind: none is lost, none hangs, and none is left.
//! `PROCRT_STRESS=N` starts N hundredths of them.

mod support;

use std::time::Duration;

use support::container::Container;
use support::{Bundle, Running, rounds};

/// Starts `count` processes, each of which says its number and exits with it, and waits for all of them.
#[track_caller]
fn storm(container: &Container, options: &[&str], count: usize) {
    let all: Vec<(usize, Running)> = (0..count)
        .map(|number| {
            let script = format!("echo is {number}; exit {}", number % 250);
            (number, Running::start(&mut container.command_of(options, &["sh", "-c", &script])))
        })
        .collect();
    for (number, running) in all {
        let outcome = running.finish();
        assert_eq!(outcome.code(), (number % 250) as i32, "{outcome:#?}");
        assert_eq!(outcome.stdout.trim_end(), format!("is {number}"), "{outcome:#?}");
        assert_eq!(outcome.stderr, "", "{number}");
    }
    let pids = container.call(&["ps", "--format", "json", container.id()]).ok();
    assert_eq!(pids, format!("[{}]", container.pid()));
}

#[test]
fn with_and_without_a_terminal() {
    let container = Container::sleeping();
    storm(&container, &[], rounds(20));
    storm(&container, &["--tty"], rounds(20));
}

#[test]
fn in_a_user_namespace() {
    let container = Container::of(Bundle::sleeping().mapped(100_000));
    storm(&container, &[], rounds(10));
    storm(&container, &["--tty"], rounds(10));
    storm(&container, &["--user", "7:8"], rounds(5));
}

#[test]
fn detached() {
    let container = Container::sleeping();
    let all: Vec<Running> = (0..rounds(10))
        .map(|number| {
            let script = format!("echo {number} >> /all; exec sleep 1000");
            Running::start(&mut container.command_of(&["--detach"], &["sh", "-c", &script]))
        })
        .collect();
    for running in all {
        running.finish().ok();
    }
    support::wait_until("every process", || {
        let text = std::fs::read_to_string(container.inside("all")).unwrap_or_default();
        text.lines().count() == rounds(10)
    });
    let pids: Vec<i32> =
        serde_json::from_str(&container.call(&["ps", "--format", "json", container.id()]).ok()).unwrap();
    assert_eq!(pids.len(), rounds(10) + 1);
}

/// At whatever moment the container dies, each process either came to its end, was killed with it, or was refused.
#[test]
fn into_a_container_that_dies_meanwhile() {
    for round in 0..rounds(6) {
        let bundle = if round % 2 == 0 { Bundle::sleeping() } else { Bundle::sleeping().mapped(100_000) };
        bundle.create().ok();
        bundle.start().ok();
        let options: &[&str] = if round % 3 == 0 { &["--tty"] } else { &[] };
        let mut all = Vec::new();
        for number in 0..12 {
            if number == 6 {
                std::thread::sleep(Duration::from_millis(2 * round as u64 % 30));
                bundle.kill("KILL").ok();
            }
            let args = [&["exec"], options, &[bundle.id(), "sh", "-c", "echo here; sleep 0.01; exit 3"]].concat();
            all.push(Running::start(&mut bundle.command(&args)));
        }
        for running in all {
            let outcome = running.finish();
            match outcome.code() {
                3 => assert_eq!((outcome.stdout.trim_end(), outcome.stderr.as_str()), ("here", "")),
                137 => assert_eq!(outcome.stderr, ""),
                255 => {
                    let words = "cannot exec in a stopped container\n";
                    assert!(outcome.stderr.ends_with(words) && outcome.stdout.is_empty(), "{outcome:#?}");
                }
                _ => panic!("{outcome:#?}"),
            }
        }
        bundle.wait_for_status("stopped");
        bundle.delete(&[]).ok();
    }
}
