//! What is wrong with a policy by itself: values that mean nothing, rules that contradict each other, paths that are not
//! there. All of it is found before anything is made, and told together.

use std::path::{Path, PathBuf};

use super::{Bind, Level, NetworkMode, Policy, Seccomp};
use crate::error::{Faults, Result};
use crate::sandbox::caller::Caller;
use crate::sandbox::environment;

/// The least memory that a program begins with.
const LEAST_MEMORY: u64 = 1 << 20;

impl Policy {
    /// Sees that the policy can be meant as it stands, for a caller in a directory of this host's.
    ///
    /// # Errors
    /// `Kind::Config` with all that is wrong, each with its field and value.
    pub fn check(&self, caller: &Caller) -> Result<()> {
        let mut faults = Faults::default();
        self.check_levels(&mut faults);
        self.check_limits(&mut faults);
        self.check_paths(caller, &mut faults);
        self.check_rules(caller, &mut faults);
        if !self.network.allow_tcp.is_empty() && self.network.mode != Some(NetworkMode::Host) {
            faults.add(
                "network.allow_tcp",
                format_args!(
                    "{:?}: ports of the host's network, which takes network.mode \"host\"",
                    self.network.allow_tcp
                ),
            );
        }
        if let Some(at) = self.network.allow_tcp.iter().position(|port| *port == 0) {
            faults.add(format!("network.allow_tcp[{at}]"), "0 is no port");
        }
        if let Some(user) = &self.user
            && ids(user).is_none()
        {
            faults.add("user", format_args!("{user:?} is not UID or UID:GID, numbers below 4294967295"));
        }
        environment::variables(self, caller, &mut faults);
        faults.into_result()
    }

    fn check_levels(&self, faults: &mut Faults) {
        let word = |level: Level| serde_json::to_value(level).unwrap_or_default();
        match (self.level, &self.files.rootfs) {
            (Some(Level::Container), None) => {
                faults.add("level", "\"container\" takes a root file system, files.rootfs (--rootfs)");
            }
            (Some(level @ (Level::Off | Level::Default | Level::Enhanced)), Some(rootfs)) => faults.add(
                "files.rootfs",
                format_args!("{rootfs:?}: level {} has the host's root: \"container\" has another", word(level)),
            ),
            _ => {}
        }
        if let (Some(level @ (Level::Off | Level::Default)), Some(runtime)) = (self.level, &self.runtime) {
            faults.add(
                "runtime",
                format_args!("{runtime:?}: level {} is of the process itself: it has none", word(level)),
            );
        }
        if self.runtime.is_none() && !self.runtime_args.is_empty() && self.level != Some(Level::Maximum) {
            faults.add("runtime_args", format_args!("{:?}: there is no runtime that they are for", self.runtime_args));
        }
    }

    fn check_limits(&self, faults: &mut Faults) {
        let limits = &self.limits;
        if let Some(memory) = limits.memory.filter(|memory| memory.0 < LEAST_MEMORY) {
            faults.add("limits.memory", format_args!("\"{memory}\" is less than 1M: no program begins with that"));
        }
        for (field, size) in [("tmpfs_size", limits.tmpfs_size), ("io_bps", limits.io_bps)] {
            if size.is_some_and(|size| size.0 == 0) {
                faults.add(format!("limits.{field}"), "\"0\" is nothing at all");
            }
        }
        if limits.pids == Some(0) {
            faults.add("limits.pids", "0 is not even the command");
        }
    }

    /// That what is named is there, and is what it has to be.
    fn check_paths(&self, caller: &Caller, faults: &mut Faults) {
        let files = &self.files;
        for (field, list) in self.binds() {
            for (at, bind) in list.iter().enumerate() {
                exists(caller, format!("files.{field}[{at}]"), &bind.source, false, faults);
            }
        }
        let directories = [("workspace", &files.workspace), ("out", &files.out), ("rootfs", &files.rootfs)];
        for (field, path) in directories {
            if let Some(path) = path {
                exists(caller, format!("files.{field}"), path, true, faults);
            }
        }
        if files.rootfs.is_none() {
            for (at, path) in files.deny.iter().enumerate() {
                // What has another name inside is there by that name only.
                let shown = self
                    .binds()
                    .iter()
                    .flat_map(|(_, list)| *list)
                    .any(|bind| bind.destination.as_ref().is_some_and(|destination| path.starts_with(destination)));
                let made = path.starts_with("/workspace") || path.starts_with("/out");
                if !shown && !made {
                    exists(caller, format!("files.deny[{at}]"), path, false, faults);
                }
            }
        }
        if let Some(cwd) = files.cwd.as_ref().filter(|cwd| !cwd.is_absolute()) {
            faults.add("files.cwd", format_args!("{cwd:?} is not absolute: it is the sandbox's, not the caller's"));
        }
        if let Some(Seccomp::File(path)) = &self.seccomp {
            exists(caller, "seccomp".to_owned(), path, false, faults);
        }
    }

    /// That no rule takes back what another gives.
    fn check_rules(&self, caller: &Caller, faults: &mut Faults) {
        let mut all: Vec<(String, PathBuf, &'static str, PathBuf)> = Vec::new();
        for (field, list) in self.binds() {
            for (at, bind) in list.iter().enumerate() {
                let source = absolute(caller, &bind.source);
                let inside = bind.destination.clone().unwrap_or_else(|| source.clone());
                all.push((format!("files.{field}[{at}]"), plain(&inside), field, source));
            }
        }
        for (field, path, inside) in
            [("workspace", &self.files.workspace, "/workspace"), ("out", &self.files.out, "/out")]
        {
            if let Some(path) = path {
                all.push((format!("files.{field}"), inside.into(), field, absolute(caller, path)));
            }
        }
        for (at, (field, inside, kind, source)) in all.iter().enumerate() {
            let other = all[..at].iter().find(|(_, other, ..)| other == inside);
            if let Some((before, _, other, from)) = other.filter(|(_, _, other, from)| other != kind || from != source)
            {
                let why = if other == kind { "another path there" } else { "the same path" };
                let what = if from == source { why } else { "another path there" };
                faults.add(field, format_args!("{inside:?} contradicts {before}, which says {what}"));
            }
            let denied = self.files.deny.iter().map(|path| plain(&absolute(caller, path)));
            if let Some((index, path)) = denied.enumerate().find(|(_, path)| inside.starts_with(path)) {
                faults.add(
                    field,
                    format_args!("{inside:?} contradicts files.deny[{index}], which keeps {path:?} out of reach"),
                );
            }
            let own = matches!(self.level, Some(Level::Off | Level::Default));
            if !own && (inside == Path::new("/") || inside.starts_with("/proc")) {
                faults.add(field, format_args!("{inside:?} is the sandbox's own: nothing can be shown there"));
            }
        }
        if let Some(cwd) = &self.files.cwd {
            let denied = self.files.deny.iter().map(|path| plain(&absolute(caller, path)));
            if let Some((index, path)) = denied.enumerate().find(|(_, path)| plain(cwd).starts_with(path)) {
                faults.add(
                    "files.cwd",
                    format_args!("{cwd:?} contradicts files.deny[{index}], which keeps {path:?} out of reach"),
                );
            }
        }
    }

    /// The lists of binds, by the names of their fields.
    pub(in crate::sandbox) fn binds(&self) -> [(&'static str, &[Bind]); 3] {
        [("ro", &self.files.ro), ("rw", &self.files.rw), ("overlay", &self.files.overlay)]
    }
}

/// `UID` or `UID:GID` as numbers; the group is the user's number if it is left out.
pub(in crate::sandbox) fn ids(user: &str) -> Option<(u32, u32)> {
    let id = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|id| digits && *id != u32::MAX)
    };
    match user.split_once(':') {
        None => id(user).map(|uid| (uid, uid)),
        Some((uid, gid)) => Some((id(uid)?, id(gid)?)),
    }
}

/// A path of the caller's, absolute.
pub(in crate::sandbox) fn absolute(caller: &Caller, path: &Path) -> PathBuf {
    caller.cwd.join(path)
}

/// Without `.`, double slashes and `..`, by the words alone.
pub(in crate::sandbox) fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => out.push(name),
            std::path::Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

fn exists(caller: &Caller, field: String, path: &Path, directory: bool, faults: &mut Faults) {
    match std::fs::metadata(absolute(caller, path)) {
        Err(error) => faults.add(field, format_args!("{path:?}: {}", crate::error::Error::from(error))),
        Ok(found) if directory && !found.is_dir() => faults.add(field, format_args!("{path:?} is not a directory")),
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller { uid: 1000, gid: 1000, cwd: "/tmp".into(), home: None, terminal: false, variables: vec![] }
    }

    fn faults(json: serde_json::Value) -> String {
        let policy: Policy = serde_json::from_value(json).unwrap();
        policy.check(&caller()).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_is_wrong_is_told_together_each_with_field_and_value() {
        let error = faults(serde_json::json!({
            "level": "container", "user": "root", "runtime_args": ["--x"],
            "limits": {"memory": "4K", "tmpfs_size": 0, "pids": 0, "io_bps": 0},
            "files": {"ro": ["/no/such"], "out": "/etc/passwd", "cwd": "here"},
            "network": {"allow_tcp": [0]},
            "seccomp": "/no/profile.json",
            "environment": {"set": {"A_TOKEN": "1"}}
        }));
        for part in [
            "level: \"container\" takes a root file system",
            "user: \"root\" is not UID",
            "runtime_args: [\"--x\"]",
            "limits.memory: \"4K\" is less than 1M",
            "limits.tmpfs_size: \"0\"",
            "limits.io_bps: \"0\"",
            "limits.pids: 0",
            "files.ro[0]: \"/no/such\": no such file or directory",
            "files.out: \"/etc/passwd\" is not a directory",
            "files.cwd: \"here\" is not absolute",
            "network.allow_tcp: [0]: ports of the host's network",
            "network.allow_tcp[0]: 0 is no port",
            "seccomp: \"/no/profile.json\": no such file",
            "environment.set.A_TOKEN: ",
        ] {
            assert!(error.contains(part), "{part}\n{error}");
        }
    }

    #[test]
    fn rules_that_contradict_each_other_are_refused() {
        for (files, part) in [
            (serde_json::json!({"ro": ["/usr"], "rw": ["/usr/"]}), "files.rw[0]: \"/usr\" contradicts files.ro[0]"),
            (
                serde_json::json!({"rw": ["/usr"], "overlay": ["/usr"]}),
                "files.overlay[0]: \"/usr\" contradicts files.rw[0]",
            ),
            (serde_json::json!({"ro": ["/usr:/a", "/etc:/a"]}), "files.ro[1]: \"/a\" contradicts files.ro[0]"),
            (
                serde_json::json!({"ro": ["/usr/lib"], "deny": ["/usr"]}),
                "files.ro[0]: \"/usr/lib\" contradicts files.deny[0]",
            ),
            (
                serde_json::json!({"rw": ["/usr"], "deny": ["/usr/bin/../"]}),
                "files.rw[0]: \"/usr\" contradicts files.deny[0]",
            ),
            (serde_json::json!({"out": "/usr", "rw": ["/etc:/out"]}), "files.out: \"/out\" contradicts files.rw[0]"),
            (
                serde_json::json!({"cwd": "/usr/lib", "deny": ["/usr"]}),
                "files.cwd: \"/usr/lib\" contradicts files.deny[0]",
            ),
            (serde_json::json!({"ro": ["/"]}), "files.ro[0]: \"/\" is the sandbox's own"),
            (serde_json::json!({"ro": ["/etc:/proc/1"]}), "files.ro[0]: \"/proc/1\" is the sandbox's own"),
            (serde_json::json!({"deny": ["/no/such"]}), "files.deny[0]: \"/no/such\": no such file"),
        ] {
            let error = faults(serde_json::json!({"files": files}));
            assert!(error.contains(part), "{part}\n{error}");
        }
    }

    #[test]
    fn rules_that_go_together_are_taken() {
        for files in [
            serde_json::json!({"ro": ["/usr"], "rw": ["/usr/lib"], "deny": ["/usr/bin"]}),
            serde_json::json!({"ro": ["/usr", "/usr"]}),
            serde_json::json!({"ro": ["/etc:/data"], "deny": ["/data/ssl"]}),
            serde_json::json!({"cwd": "/usr"}),
        ] {
            assert_eq!(faults(serde_json::json!({"files": files.clone()})), "", "{files}");
        }
        assert_eq!(faults(serde_json::json!({"level": "default", "files": {"ro": ["/"]}})), "");
    }

    #[test]
    fn levels_that_lack_something_or_have_too_much_are_refused() {
        for (json, part) in [
            (serde_json::json!({"level": "enhanced", "files": {"rootfs": "/usr"}}), "files.rootfs: \"/usr\""),
            (serde_json::json!({"level": "default", "runtime": "runc"}), "runtime: \"runc\""),
            (serde_json::json!({"level": "off", "files": {"rootfs": "/usr"}}), "level \"off\""),
        ] {
            let error = faults(json);
            assert!(error.contains(part), "{part}\n{error}");
        }
        assert_eq!(faults(serde_json::json!({"files": {"rootfs": "/usr"}})), "");
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!(ids("7"), Some((7, 7)));
        assert_eq!(ids("7:8"), Some((7, 8)));
        for wrong in ["", "a", "1:", ":1", "-1", "+1", "4294967295", "1:2:3"] {
            assert_eq!(ids(wrong), None, "{wrong}");
        }
    }
}
