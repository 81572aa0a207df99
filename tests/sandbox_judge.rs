//! The example of a judge, with programs that are right, wrong, slow, greedy and curious.

#[path = "../examples/judge.rs"]
#[allow(dead_code)]
mod judge;
mod support;

use std::fs;
use std::path::Path;

use judge::{Verdict, judge};

/// Whether the sandbox, whose PATH is fixed, will find Python.
fn has_python() -> bool {
    ["/usr/local/bin/python3", "/usr/bin/python3", "/bin/python3"].iter().any(|path| Path::new(path).exists())
}

fn verdict(name: &str, program: &str) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at(name), program).unwrap();
    fs::write(at("case.in"), "6 7\n").unwrap();
    fs::write(at("case.out"), "42\n").unwrap();
    judge(&at(name), &at("case.in"), &at("case.out")).unwrap().0
}

#[test]
fn shell_programs_get_the_verdict_that_they_deserve() {
    for (program, expected) in [
        ("read a b; echo $((a * b))", Verdict::Accepted),
        ("read a b; echo $((a + b))", Verdict::WrongAnswer),
        ("while :; do :; done", Verdict::TimeLimit),
        ("trap '' TERM; setsid sleep 1000 & sleep 1000", Verdict::TimeLimit),
        ("exit 3", Verdict::RuntimeError(3)),
        ("kill -SEGV $$", Verdict::RuntimeError(139)),
        ("head -c 2000000 /dev/zero", Verdict::OutputLimit),
        // The answer is beside the question, but out of sight.
        ("cat /judged/case.out /judged/../case.out case.out; exit 0", Verdict::WrongAnswer),
    ] {
        assert_eq!(verdict("a.sh", program), expected, "{program}");
    }
}

#[test]
fn python_programs_get_the_verdict_that_they_deserve() {
    if !has_python() {
        eprintln!(
            "SKIPPED python_programs_get_the_verdict_that_they_deserve: there is no python3 in a system directory"
        );
        return;
    }
    for (program, expected) in [
        ("a, b = map(int, input().split())\nprint(a * b)", Verdict::Accepted),
        ("x = 'x' * (1 << 20)\nl = []\nwhile True: l.append(x + str(len(l)))", Verdict::MemoryLimit),
        ("raise SystemExit(1)", Verdict::RuntimeError(1)),
        ("import socket\nsocket.create_connection(('127.0.0.1', 22))", Verdict::RuntimeError(1)),
        ("import time\ntime.sleep(100)", Verdict::TimeLimit),
    ] {
        assert_eq!(verdict("a.py", program), expected, "{program}");
    }
}
