//! What a policy comes to: every open field with its value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::{absolute, plain};
use super::{Amount, Bind, Level, NetworkMode, Policy, Rlimit, Seccomp, Size, Time};
use crate::error::{Context, Result};
use crate::sandbox::backend::{Ability, Backend, Choice};
use crate::sandbox::caller::Caller;
use crate::sandbox::view;

/// Limits where nothing is said.
const MEMORY: Size = Size(1 << 30);
const PIDS: u32 = 256;
const TIMEOUT: Time = Time(Duration::from_mins(5));
const GRACE: Time = Time(Duration::from_secs(1));
const TMPFS_SIZE: Size = Size(64 << 20);
const RLIMITS: [(Rlimit, Amount); 2] = [(Rlimit::Core, Amount(0)), (Rlimit::Nofile, Amount(1024))];

impl Policy {
    /// The policy as it will be carried out by `choice` for `caller`: open fields have their values, paths of the host are
    /// absolute and without symbolic links, and each bind has its destination.
    ///
    /// A limit that is left open and that `choice` cannot enforce stays open. So does `files.cwd` where the command begins
    /// in a directory of its own that is made for it (level `default`), and `user` where root leaves it open for a backend
    /// that may make another id of it.
    ///
    /// # Errors
    /// As [`Policy::check`]; a path that has gone meanwhile.
    pub fn effective(&self, caller: &Caller, choice: &Choice) -> Result<Self> {
        self.check(caller)?;
        let mut policy = self.clone();
        let bare = choice.backend == Backend::Process;
        policy.level = Some(choice.level);
        if let Backend::Runtime { path } = &choice.backend {
            policy.runtime = Some(path.clone());
        }
        let off = choice.level == Level::Off;
        policy.seccomp.get_or_insert(if off { Seccomp::None } else { Seccomp::Default });
        if let Some(Seccomp::File(path)) = &mut policy.seccomp {
            *path = real(caller, "seccomp", path)?;
        }
        policy.fill_limits(choice);
        policy.fill_paths(caller, bare)?;
        policy.fill_cwd(caller, bare);
        policy.files.hide_home.get_or_insert(!off);
        policy.network.mode.get_or_insert(if off { NetworkMode::Host } else { NetworkMode::None });
        if policy.user.is_none() && (bare || !caller.is_root()) {
            policy.user = Some(format!("{}:{}", caller.uid, caller.gid));
        }
        Ok(policy)
    }

    fn fill_limits(&mut self, choice: &Choice) {
        let can = |ability| choice.enforces.contains(&ability);
        let limits = &mut self.limits;
        if can(Ability::Memory) {
            limits.memory.get_or_insert(MEMORY);
        }
        if can(Ability::Swap) && limits.memory.is_some() {
            limits.swap.get_or_insert(Size(0));
        }
        if can(Ability::Pids) {
            limits.pids.get_or_insert(PIDS);
        }
        if can(Ability::PrivateRoot) {
            limits.tmpfs_size.get_or_insert(TMPFS_SIZE);
        }
        if can(Ability::Timeout) {
            limits.timeout.get_or_insert(TIMEOUT);
        }
        limits.grace.get_or_insert(GRACE);
        for (resource, amount) in RLIMITS {
            limits.rlimits.entry(resource).or_insert(amount);
        }
    }

    fn fill_paths(&mut self, caller: &Caller, bare: bool) -> Result<()> {
        let files = &mut self.files;
        for (field, list) in [("ro", &mut files.ro), ("rw", &mut files.rw), ("overlay", &mut files.overlay)] {
            for (at, bind) in list.iter_mut().enumerate() {
                let source = real(caller, &format!("files.{field}[{at}]"), &bind.source)?;
                let named = absolute(caller, &bind.source);
                let climbs = named.components().any(|part| part == std::path::Component::ParentDir);
                // A process without a root of its own sees the host's paths as they are.
                let inside = if climbs || bare { source.clone() } else { plain(&named) };
                bind.destination = Some(bind.destination.take().map_or(inside, |path| plain(&path)));
                bind.source = source;
            }
            // A file and an option may say the same.
            let mut seen = Vec::new();
            list.retain(|bind| {
                !seen.contains(bind) && {
                    seen.push(bind.clone());
                    true
                }
            });
        }
        for path in &mut files.deny {
            *path = plain(&absolute(caller, path));
        }
        for (field, path) in
            [("workspace", &mut files.workspace), ("out", &mut files.out), ("rootfs", &mut files.rootfs)]
        {
            if let Some(path) = path {
                *path = real(caller, &format!("files.{field}"), path)?;
            }
        }
        Ok(())
    }

    /// Where the command begins, and whether that is shared.
    fn fill_cwd(&mut self, caller: &Caller, bare: bool) {
        let files = &mut self.files;
        if let Some(cwd) = &mut files.cwd {
            *cwd = plain(cwd);
            return;
        }
        if self.level == Some(Level::Off) {
            files.cwd = Some(caller.cwd.clone());
            return;
        }
        if files.workspace.is_some() {
            files.cwd = Some("/workspace".into());
            return;
        }
        if files.rootfs.is_some() {
            files.cwd = Some("/".into());
            return;
        }
        let cwd = &caller.cwd;
        let named = files.ro.iter().chain(&files.rw).chain(&files.overlay);
        if named.filter_map(|bind| bind.destination.as_ref()).any(|path| cwd.starts_with(path)) {
            files.cwd = Some(cwd.clone());
        } else if shareable(caller, cwd) && !files.deny.iter().any(|path| cwd.starts_with(path)) {
            files.rw.push(Bind { source: cwd.clone(), destination: Some(cwd.clone()) });
            files.cwd = Some(cwd.clone());
        } else if !bare {
            files.cwd = Some("/tmp".into());
        }
    }
}

/// Whether a sandbox may write to the caller's working directory without being told so: not where that is the system's, a
/// home directory, or holds one of these.
pub(in crate::sandbox) fn shareable(caller: &Caller, cwd: &Path) -> bool {
    let system = view::SYSTEM.iter().any(|path| cwd.starts_with(path) || Path::new(path).starts_with(cwd));
    let shared = view::SHARED.iter().any(|path| cwd == Path::new(path));
    let home = cwd.parent() == Some(Path::new("/home"))
        || caller.home.as_ref().is_some_and(|home| home != Path::new("/") && home.starts_with(cwd));
    !(system || shared || home)
}

fn real(caller: &Caller, field: &str, path: &Path) -> Result<PathBuf> {
    absolute(caller, path).canonicalize().context(|| format!("{field}: {path:?}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn caller(cwd: &str) -> Caller {
        let home = Some("/srv/people/me".into());
        Caller { uid: 1000, gid: 100, cwd: cwd.into(), home, terminal: false, variables: vec![] }
    }

    fn choice(backend: Backend, level: Level, enforces: &[Ability]) -> Choice {
        let enforces: BTreeSet<Ability> = enforces.iter().copied().collect();
        Choice { backend, level, reason: String::new(), enforces, cannot: vec![] }
    }

    fn policy(json: serde_json::Value) -> Policy {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn open_fields_get_their_values() {
        let all = [Ability::Memory, Ability::Swap, Ability::Pids, Ability::PrivateRoot, Ability::Timeout];
        let choice = choice(Backend::Engine, Level::Enhanced, &all);
        let dir = tempfile::tempdir().unwrap();
        let cwd = dir.path().to_str().unwrap();
        let effective = Policy::default().effective(&caller(cwd), &choice).unwrap();
        let wanted = policy(serde_json::json!({
            "level": "enhanced", "seccomp": "default", "user": "1000:100",
            "limits": {
                "memory": "1G", "swap": 0, "pids": 256, "timeout": "5m", "grace": "1s", "tmpfs_size": "64M",
                "rlimits": {"core": 0, "nofile": 1024},
            },
            "files": {"rw": [format!("{cwd}:{cwd}")], "cwd": cwd, "hide_home": true},
            "network": {"mode": "none"},
        }));
        assert_eq!(effective, wanted);
        assert_eq!(effective.effective(&caller(cwd), &choice).unwrap(), wanted);
    }

    #[test]
    fn a_limit_that_cannot_be_enforced_stays_open() {
        let choice = choice(Backend::Process, Level::Default, &[Ability::Timeout]);
        let effective = Policy::default().effective(&caller("/"), &choice).unwrap();
        let limits = effective.limits;
        assert_eq!((limits.memory, limits.swap, limits.pids, limits.tmpfs_size), (None, None, None, None));
        assert_eq!(limits.timeout, Some(TIMEOUT));
        assert_eq!((effective.files.cwd, effective.files.rw), (None, vec![]));
    }

    #[test]
    fn the_callers_directory_is_shared_unless_it_is_the_systems_or_a_home() {
        for cwd in
            ["/", "/usr/lib", "/etc", "/home", "/home/a", "/srv/people/me", "/srv/people", "/tmp", "/root", "/var"]
        {
            assert!(!shareable(&caller(cwd), Path::new(cwd)), "{cwd}");
        }
        for cwd in ["/srv/people/me/work", "/home/a/b", "/tmp/x", "/work", "/root/x", "/var/lib/x"] {
            assert!(shareable(&caller(cwd), Path::new(cwd)), "{cwd}");
        }
    }

    #[test]
    fn the_directory_is_not_given_away_where_another_rule_speaks_of_it() {
        let choice = choice(Backend::Engine, Level::Enhanced, &[]);
        let dir = tempfile::tempdir().unwrap();
        let cwd = dir.path().to_str().unwrap();
        let of = |files: serde_json::Value| {
            policy(serde_json::json!({"files": files})).effective(&caller(cwd), &choice).unwrap().files
        };
        let files = of(serde_json::json!({"ro": ["."]}));
        assert_eq!((files.rw, files.cwd), (vec![], Some(cwd.into())));
        let files = of(serde_json::json!({"deny": ["."]}));
        assert_eq!((files.rw, files.cwd), (vec![], Some("/tmp".into())));
        let files = of(serde_json::json!({"workspace": "."}));
        assert_eq!((files.rw, files.cwd), (vec![], Some("/workspace".into())));
        let files = of(serde_json::json!({"cwd": "/usr"}));
        assert_eq!((files.rw, files.cwd), (vec![], Some("/usr".into())));
    }

    #[test]
    fn paths_are_absolute_and_without_links_and_said_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let cwd = dir.path().to_str().unwrap();
        let wanted = policy(serde_json::json!({"files": {"ro": ["link", "./link", "a/../a:/x"]}}));
        let files = wanted.effective(&caller(cwd), &choice(Backend::Engine, Level::Enhanced, &[])).unwrap().files;
        let texts: Vec<String> = files.ro.into_iter().map(String::from).collect();
        assert_eq!(texts, [format!("{cwd}/a:{cwd}/link"), format!("{cwd}/a:/x")]);
    }
}
