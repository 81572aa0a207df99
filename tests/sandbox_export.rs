//! `procrt sandbox export` as its callers see it: what is in the archive is found by unpacking it.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Outcome, PROCRT};

fn export(args: &[&str], at: &Path) -> Outcome {
    Outcome::of(Command::new(PROCRT).args(["sandbox", "export"]).args(args).current_dir(at))
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    fs::create_dir_all(work.join("src")).unwrap();
    fs::create_dir_all(work.join(".git")).unwrap();
    fs::write(work.join("src/main.py"), "print(1)\n").unwrap();
    fs::write(work.join(".env"), "KEY=1").unwrap();
    fs::write(work.join("big"), vec![0; (256 << 10) + 1]).unwrap();
    symlink("main.py", work.join("src/link")).unwrap();
    symlink("/etc/passwd", work.join("out")).unwrap();
    dir
}

#[test]
fn what_is_packed_is_what_tar_unpacks() {
    let dir = tree();
    let said = export(&["work", "a.tar.gz"], dir.path()).ok();
    for line in [
        "packed 2 files, 9 bytes, into \"a.tar.gz\"",
        "  src/link -> main.py",
        "  src/main.py (9 bytes)",
        "left out 3",
        "  .env: its name looks like a secret's",
        "  .git/: version control",
        "  big: larger than 256K",
        "refused 1",
        "  out: a link to an absolute path: \"/etc/passwd\"",
    ] {
        assert!(said.lines().any(|one| one == line), "{line}\nis not in\n{said}");
    }
    fs::create_dir(dir.path().join("to")).unwrap();
    Outcome::of(Command::new("tar").args(["-xzf", "a.tar.gz", "-C", "to"]).current_dir(dir.path())).ok();
    let to = dir.path().join("to");
    assert_eq!(fs::read_to_string(to.join("src/link")).unwrap(), "print(1)\n");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
}

#[test]
fn the_report_is_json_too_and_names_the_archives_sum() {
    let dir = tree();
    let report: Value = serde_json::from_str(&export(&["--json", "work", "a.tar.gz"], dir.path()).ok()).unwrap();
    let sum = Outcome::of(Command::new("sha256sum").arg("a.tar.gz").current_dir(dir.path())).ok();
    assert_eq!(sum.split(' ').next(), report["sha256"].as_str());
    assert_eq!(report["files"][1]["path"], "src/main.py");
    assert_eq!(report["refused"][0]["path"], "out");
    assert_eq!(report["archive_bytes"], fs::metadata(dir.path().join("a.tar.gz")).unwrap().len());
}

#[test]
fn what_cannot_be_packed_as_asked_is_125_and_no_archive() {
    let dir = tree();
    for (args, sentence) in [
        (&["--strict", "work", "a.tar.gz"][..], "a link to an absolute path"),
        (&["nowhere", "a.tar.gz"], "nowhere"),
        (&["work/big", "a.tar.gz"], "big"),
        (&["--include", "../x", "work", "a.tar.gz"], "../x"),
        (&["--exclude", "none", "work", "a.tar.gz"], "none"),
        (&["--file-size", "1Q", "work", "a.tar.gz"], "1Q"),
        (&["work", "none/a.tar.gz"], "none/a.tar.gz"),
    ] {
        let outcome = export(args, dir.path());
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (125, ""), "{args:?} {outcome:?}");
        assert!(outcome.stderr.contains(sentence) && outcome.stderr.lines().count() == 1, "{args:?} {outcome:?}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["work"]);
}
