//! Which rule of a policy decides about a path, without running anything.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::check::plain;
use super::{Level, Policy};
use crate::sandbox::view;

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading a file, listing a directory.
    Read,
    /// Writing a file, making and removing what is in a directory.
    Write,
    /// Executing a file.
    Execute,
}

/// The answer about a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether the policy lets it be done. Modes and owners of files can still forbid it.
    pub allowed: bool,
    /// The rule that decides: a field of the policy with its place (`files.deny[0]`), or what holds where none speaks of it.
    pub rule: String,
    /// What is written there is thrown away at the end.
    pub discarded: bool,
}

impl Verdict {
    fn of(allowed: bool, rule: impl Into<String>) -> Self {
        Self { allowed, rule: rule.into(), discarded: false }
    }
}

impl Policy {
    /// Whether a command in the sandbox may do that with `path`, an absolute path as the command sees it, and which rule says
    /// so: `deny` before all others; of the others that cover the path the most specific one. To be asked of an effective
    /// policy ([`Policy::effective`]), in which every path is absolute.
    ///
    /// It answers by the words of the policy and looks at no file: a symbolic link in the sandbox leads to another path, about
    /// which another rule may decide.
    ///
    /// ```
    /// use procrt::sandbox::{Access, Policy};
    /// let policy: Policy = serde_json::from_str(
    ///     r#"{"level": "enhanced", "files": {"rw": ["/project:/project"], "deny": ["/project/.git"]}}"#,
    /// ).unwrap();
    /// assert!(policy.check_path("/project/src/main.rs", Access::Write).allowed);
    /// let verdict = policy.check_path("/project/.git/hooks/pre-commit", Access::Write);
    /// assert_eq!((verdict.allowed, verdict.rule.as_str()), (false, "files.deny[0]"));
    /// assert!(!policy.check_path("/etc/shadow", Access::Read).allowed);
    /// ```
    pub fn check_path(&self, path: impl AsRef<Path>, access: Access) -> Verdict {
        let path = plain(path.as_ref());
        let files = &self.files;
        let level = self.level.unwrap_or(if files.rootfs.is_some() { Level::Container } else { Level::Enhanced });
        if level == Level::Off {
            return Verdict::of(true, "level \"off\" confines no files");
        }
        if let Some(at) = files.deny.iter().position(|denied| path.starts_with(denied)) {
            return Verdict::of(false, format!("files.deny[{at}]"));
        }
        let mut best: Option<(usize, Verdict)> = None;
        let mut consider = |place: &Path, verdict: Verdict| {
            let length = place.components().count();
            if path.starts_with(place) && best.as_ref().is_none_or(|(other, _)| *other <= length) {
                best = Some((length, verdict));
            }
        };
        let reads = access != Access::Write;
        if files.rootfs.is_some() {
            consider(Path::new("/"), Verdict::of(reads, "files.rootfs"));
        } else {
            for directory in view::DIRECTORIES {
                consider(Path::new(directory), Verdict::of(reads, "the host's programs and libraries, read-only"));
            }
            for setting in view::SETTINGS {
                let allowed = access == Access::Read;
                consider(Path::new(setting), Verdict::of(allowed, "what programs need of /etc, read-only"));
            }
        }
        let machine = Verdict::of(access == Access::Read, "what the kernel tells, read-only");
        consider(Path::new("/proc"), machine);
        for device in view::DEVICES {
            consider(Path::new(device), Verdict::of(access != Access::Execute, "devices that any program has"));
        }
        if level != Level::Default {
            for place in ["/tmp", "/dev/shm"] {
                let verdict = Verdict::of(true, "a private file system in memory");
                consider(Path::new(place), Verdict { discarded: true, ..verdict });
            }
        }
        for (field, list) in self.binds() {
            for (at, bind) in list.iter().enumerate() {
                let verdict = Verdict::of(reads || field != "ro", format!("files.{field}[{at}]"));
                let place: PathBuf = plain(bind.destination.as_ref().unwrap_or(&bind.source));
                consider(&place, Verdict { discarded: field == "overlay", ..verdict });
            }
        }
        if files.workspace.is_some() {
            consider(Path::new("/workspace"), Verdict { discarded: true, ..Verdict::of(true, "files.workspace") });
        }
        if files.out.is_some() {
            consider(Path::new("/out"), Verdict::of(true, "files.out"));
        }
        best.map_or_else(|| Verdict::of(false, "no rule shows it"), |(_, verdict)| verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: serde_json::Value) -> Policy {
        serde_json::from_value(json).unwrap()
    }

    #[track_caller]
    fn check(policy: &Policy, path: &str, access: Access, allowed: bool, rule: &str) {
        let verdict = policy.check_path(path, access);
        assert_eq!((verdict.allowed, verdict.rule.as_str()), (allowed, rule), "{path} {access:?}");
    }

    #[test]
    fn the_most_specific_rule_decides_and_deny_goes_before_all() {
        let policy = policy(serde_json::json!({"files": {
            "ro": ["/data:/data", "/data/b/c:/data/b/c"], "rw": ["/data/b:/data/b"], "overlay": ["/srv:/o"],
            "deny": ["/data/b/secret"], "workspace": "/x", "out": "/y",
        }}));
        check(&policy, "/data/a", Access::Read, true, "files.ro[0]");
        check(&policy, "/data/a", Access::Write, false, "files.ro[0]");
        check(&policy, "/data/b/x", Access::Write, true, "files.rw[0]");
        check(&policy, "/data/b/c/x", Access::Write, false, "files.ro[1]");
        check(&policy, "/data/b/secret/key", Access::Read, false, "files.deny[0]");
        check(&policy, "/data/b/x/../secret", Access::Read, false, "files.deny[0]");
        check(&policy, "/data/b/secrets", Access::Read, true, "files.rw[0]");
        check(&policy, "/database", Access::Read, false, "no rule shows it");
        check(&policy, "/srv", Access::Read, false, "no rule shows it");
        check(&policy, "/workspace/a", Access::Write, true, "files.workspace");
        check(&policy, "/out/a", Access::Write, true, "files.out");
        assert!(policy.check_path("/o/a", Access::Write).discarded);
        assert!(!policy.check_path("/out/a", Access::Write).discarded);
    }

    #[test]
    fn what_no_rule_names_is_what_programs_need() {
        let policy = Policy::default();
        check(&policy, "/usr/bin/true", Access::Execute, true, "the host's programs and libraries, read-only");
        check(&policy, "/usr/bin/true", Access::Write, false, "the host's programs and libraries, read-only");
        check(&policy, "/etc/shadow", Access::Read, false, "no rule shows it");
        check(&policy, "/root/.ssh/id_rsa", Access::Read, false, "no rule shows it");
        check(&policy, "/dev/null", Access::Write, true, "devices that any program has");
        check(&policy, "/tmp/x", Access::Write, true, "a private file system in memory");
        let bare = Policy { level: Some(Level::Default), ..Policy::default() };
        check(&bare, "/tmp/x", Access::Write, false, "no rule shows it");
        let off = Policy { level: Some(Level::Off), ..Policy::default() };
        assert!(off.check_path("/etc/shadow", Access::Write).allowed);
    }
}
