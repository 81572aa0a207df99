//! Which backend a policy gets, and whether that can do what it asks for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{Ability, Backend, Choice, groups};
use crate::error::{Error, Faults, Result};
use crate::sandbox::caller::Caller;
use crate::sandbox::policy::{Level, NetworkMode, Policy, Seccomp, ids};
use crate::sys;

/// The first version of landlock's interface that holds files: before it, truncate(2) is everybody's.
const FILES: u32 = 3;
/// The first that holds TCP.
const TCP: u32 = 4;
/// The first that holds signals, by which a confined process could end its supervisor.
pub(in crate::sandbox) const SIGNALS: u32 = 6;

/// The runtime that level `maximum` looks for.
const OWN_KERNEL: &str = "runsc";

/// Chooses what carries `policy` out for `caller`. It looks at what is cheap to look at, and at nothing that carrying out
/// would find out by itself.
///
/// # Errors
/// What is wrong with the policy, as [`Policy::check`]; `Kind::Unsupported` if this host lacks what it takes, or if what the
/// policy asks for cannot be enforced, naming each field with its reason: nothing weaker is taken instead.
pub fn choose(policy: &Policy, caller: &Caller) -> Result<Choice> {
    policy.check(caller)?;
    let choice = possible(policy, caller)?;
    let mut faults = Faults::default();
    let mut told = String::new();
    for (ability, field, value) in asked(policy, caller) {
        if told != field && !choice.enforces.contains(&ability) {
            let why = choice.cannot.iter().find(|(other, _)| *other == ability).map(|(_, why)| why.as_str());
            let why = why.map_or_else(|| super::beyond(choice.level), str::to_owned);
            told.clone_from(&field);
            faults.unsupported(field, format_args!("{value} cannot be enforced: {why}"));
        }
    }
    faults.into_result()?;
    Ok(choice)
}

/// The backend for the policy's level, and all that it can do here, whatever else the policy asks for.
///
/// # Errors
/// `Kind::Unsupported` if this host lacks what the level takes.
pub fn possible(policy: &Policy, caller: &Caller) -> Result<Choice> {
    let named = |level: Level| format!("level {} is asked for", super::word(level));
    match (policy.level, &policy.runtime, &policy.files.rootfs) {
        (Some(level @ (Level::Off | Level::Default)), ..) => process(level, named(level), caller),
        (level, Some(runtime), rootfs) => {
            let level = level.unwrap_or(if rootfs.is_some() { Level::Container } else { Level::Enhanced });
            let path = find(runtime, caller).ok_or_else(|| {
                Error::unsupported(format!("runtime: {runtime:?} is not there, or cannot be executed"))
            })?;
            self::runtime(level, format!("the runtime {runtime:?} is asked for"), path, caller)
        }
        (Some(Level::Maximum), None, _) => {
            let path = find(Path::new(OWN_KERNEL), caller).ok_or_else(|| {
                Error::unsupported(format!(
                    "level: \"maximum\" takes an OCI runtime that has a kernel of its own: {OWN_KERNEL} is not on PATH, and \
                     no other is named (--runtime)"
                ))
            })?;
            self::runtime(Level::Maximum, named(Level::Maximum), path, caller)
        }
        (Some(level), None, _) => Ok(engine(level, named(level), caller)),
        (None, None, Some(_)) => {
            Ok(engine(Level::Container, "a root file system is named, and no level".into(), caller))
        }
        (None, None, None) => Ok(engine(Level::Enhanced, "no level is named".into(), caller)),
    }
}

/// The process itself.
fn process(level: Level, reason: String, caller: &Caller) -> Result<Choice> {
    let mut can = Can::default();
    for (ability, answer) in groups::limits(caller) {
        can.add(ability, answer);
    }
    can.all([Ability::Rlimits, Ability::Output, Ability::Timeout]);
    if caller.is_root() {
        can.all([Ability::User]);
    } else {
        can.add(Ability::User, Err("ids other than the caller's take root at this level".into()));
    }
    if level == Level::Off {
        return Ok(can.choice(Backend::Process, level, reason));
    }
    let abi = sys::landlock::abi();
    let lacks = |since: &str| match abi {
        0 => "this kernel has no landlock, or was started without it (lsm=)".to_owned(),
        abi => format!("this kernel has version {abi} of landlock, and it takes {since}"),
    };
    if abi < FILES {
        let why = lacks("version 3, which Linux 6.2 has");
        return Err(Error::unsupported(format!("level: \"default\" confines files with landlock: {why}")));
    }
    can.all([Ability::Files, Ability::Seccomp, Ability::Network]);
    can.add(Ability::TcpPorts, if abi < TCP { Err(lacks("version 4, which Linux 6.7 has")) } else { Ok(()) });
    let processes = if abi < SIGNALS {
        Err(lacks("version 6, which Linux 6.12 has, to keep signals from the caller's other processes"))
    } else {
        Err("the caller's other processes are seen in /proc: they cannot be signalled, traced or read".to_owned())
    };
    can.add(Ability::Processes, processes);
    if abi < SIGNALS && !can.enforces.contains(&Ability::Pids) {
        can.enforces.remove(&Ability::Timeout);
        can.add(Ability::Timeout, Err(lacks("version 6, which Linux 6.12 has, or a control group")));
    }
    Ok(can.choice(Backend::Process, level, reason))
}

/// procrt's own engine.
fn engine(level: Level, reason: String, caller: &Caller) -> Choice {
    let mut can = Can::default();
    for (ability, answer) in groups::limits(caller) {
        can.add(ability, answer);
    }
    can.all(INSIDE);
    if level == Level::Container {
        can.all([Ability::Rootfs]);
    }
    can.add(Ability::TcpPorts, Err("ports are landlock's, which level default has".into()));
    can.choice(Backend::Engine, level, reason)
}

/// Another runtime: what any does, and a kernel of its own if that is what it is taken for.
fn runtime(level: Level, reason: String, path: PathBuf, caller: &Caller) -> Result<Choice> {
    if !caller.is_root() {
        return Err(Error::unsupported(format!(
            "runtime: {path:?} takes root: its processes are held and ended by control groups around its own"
        )));
    }
    let mut can = Can::default();
    for (ability, answer) in groups::limits(caller) {
        can.add(ability, answer);
    }
    can.all(INSIDE);
    can.all([Ability::Rootfs]);
    if level == Level::Maximum {
        can.all([Ability::Kernel]);
    }
    can.add(Ability::TcpPorts, Err("ports are landlock's, which level default has".into()));
    Ok(can.choice(Backend::Runtime { path }, level, reason))
}

/// What namespaces and a root of one's own give.
const INSIDE: [Ability; 12] = [
    Ability::Rlimits,
    Ability::Output,
    Ability::Timeout,
    Ability::Files,
    Ability::Seccomp,
    Ability::Network,
    Ability::Loopback,
    Ability::PrivateRoot,
    Ability::Destinations,
    Ability::Overlay,
    Ability::Processes,
    Ability::User,
];

#[derive(Default)]
struct Can {
    enforces: BTreeSet<Ability>,
    cannot: Vec<(Ability, String)>,
}

impl Can {
    fn all(&mut self, abilities: impl IntoIterator<Item = Ability>) {
        self.enforces.extend(abilities);
    }

    fn add(&mut self, ability: Ability, answer: std::result::Result<(), String>) {
        match answer {
            Ok(()) => drop(self.enforces.insert(ability)),
            Err(why) => self.cannot.push((ability, why)),
        }
    }

    fn choice(self, backend: Backend, level: Level, reason: String) -> Choice {
        Choice { backend, level, reason, enforces: self.enforces, cannot: self.cannot }
    }
}

/// What the policy asks for in so many words: with the field, and the value as a person reads it.
fn asked(policy: &Policy, caller: &Caller) -> Vec<(Ability, String, String)> {
    let mut all: Vec<(Ability, String, String)> = Vec::new();
    let mut add = |ability, field: &str, value: String| all.push((ability, field.to_owned(), value));
    let limits = &policy.limits;
    let sizes = [
        (Ability::Memory, "memory", limits.memory),
        (Ability::Swap, "swap", limits.swap),
        (Ability::Io, "io_bps", limits.io_bps),
        (Ability::Output, "output", limits.output),
        (Ability::PrivateRoot, "tmpfs_size", limits.tmpfs_size),
    ];
    for (ability, field, size) in sizes {
        if let Some(size) = size {
            add(ability, &format!("limits.{field}"), format!("\"{size}\""));
        }
    }
    if let Some(cpus) = limits.cpus {
        add(Ability::Cpus, "limits.cpus", format!("\"{cpus}\""));
    }
    if let Some(pids) = limits.pids {
        add(Ability::Pids, "limits.pids", pids.to_string());
    }
    if let Some(timeout) = limits.timeout {
        add(Ability::Timeout, "limits.timeout", format!("\"{timeout}\""));
    }
    let files = &policy.files;
    for (field, list) in policy.binds() {
        for (at, bind) in list.iter().enumerate() {
            let field = format!("files.{field}[{at}]");
            let value = format!("{:?}", String::from(bind.clone()));
            if field.starts_with("files.overlay") {
                add(Ability::Overlay, &field, value.clone());
            }
            add(Ability::Files, &field, value.clone());
            if bind.destination.as_ref().is_some_and(|destination| *destination != bind.source) {
                add(Ability::Destinations, &field, value);
            }
        }
    }
    for (at, path) in files.deny.iter().enumerate() {
        add(Ability::Files, &format!("files.deny[{at}]"), format!("{path:?}"));
    }
    for (ability, field, path) in [
        (Ability::Destinations, "workspace", &files.workspace),
        (Ability::Destinations, "out", &files.out),
        (Ability::Rootfs, "rootfs", &files.rootfs),
    ] {
        if let Some(path) = path {
            add(ability, &format!("files.{field}"), format!("{path:?}"));
        }
    }
    if files.hide_home == Some(true) {
        add(Ability::Files, "files.hide_home", "true".to_owned());
    }
    match policy.network.mode {
        Some(NetworkMode::None) => add(Ability::Network, "network.mode", "\"none\"".to_owned()),
        Some(NetworkMode::Loopback) => add(Ability::Loopback, "network.mode", "\"loopback\"".to_owned()),
        Some(NetworkMode::Host) | None => {}
    }
    if !policy.network.allow_tcp.is_empty() {
        add(Ability::TcpPorts, "network.allow_tcp", format!("{:?}", policy.network.allow_tcp));
    }
    if let Some(user) = policy.user.as_ref().filter(|user| ids(user) != Some((caller.uid, caller.gid))) {
        add(Ability::User, "user", format!("{user:?}"));
    }
    if policy.seccomp.as_ref().is_some_and(|seccomp| *seccomp != Seccomp::None) {
        add(Ability::Seccomp, "seccomp", serde_json::to_value(&policy.seccomp).unwrap_or_default().to_string());
    }
    all
}

/// A program that the caller can execute: a path, or a name to be looked for in the caller's PATH.
pub(in crate::sandbox) fn find(name: &Path, caller: &Caller) -> Option<PathBuf> {
    let usable = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if name.components().count() > 1 || name.is_absolute() {
        let path = caller.cwd.join(name);
        return usable(&path).then_some(path);
    }
    let path = caller.variable("PATH").cloned().unwrap_or_else(|| crate::sandbox::environment::PATH.into());
    std::env::split_paths(&path).map(|dir| caller.cwd.join(dir).join(name)).find(|path| usable(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn caller(uid: u32) -> Caller {
        Caller { uid, gid: uid, cwd: "/tmp".into(), home: None, terminal: false, variables: vec![] }
    }

    fn of(uid: u32, json: serde_json::Value) -> Result<Choice> {
        choose(&serde_json::from_value(json).unwrap(), &caller(uid))
    }

    #[test]
    fn a_level_gets_its_backend_and_never_a_weaker_one() {
        let choice = of(0, serde_json::json!({})).unwrap();
        assert_eq!((choice.backend, choice.level), (Backend::Engine, Level::Enhanced));
        let choice = of(0, serde_json::json!({"files": {"rootfs": "/usr"}})).unwrap();
        assert_eq!((choice.backend, choice.level), (Backend::Engine, Level::Container));
        let choice = of(1000, serde_json::json!({"level": "off"})).unwrap();
        assert_eq!((choice.backend, choice.level), (Backend::Process, Level::Off));
        let choice = of(0, serde_json::json!({"runtime": "/bin/true"})).unwrap();
        assert_eq!(choice.backend, Backend::Runtime { path: "/bin/true".into() });
    }

    #[test]
    fn what_this_host_lacks_is_unsupported() {
        for (json, part) in [
            (serde_json::json!({"runtime": "/no/such"}), "runtime: \"/no/such\" is not there"),
            (serde_json::json!({"runtime": "no-such-runtime"}), "runtime: \"no-such-runtime\" is not there"),
        ] {
            let error = of(0, json).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.kind(), Kind::Unsupported);
        }
        let error = of(1000, serde_json::json!({"runtime": "/bin/true"})).unwrap_err();
        assert!(error.to_string().contains("runtime: \"/bin/true\" takes root"), "{error}");
        assert_eq!(error.kind(), Kind::Unsupported);
        let mut nowhere = caller(0);
        nowhere.variables.push(("PATH".into(), "/no/such".into()));
        let error = choose(&serde_json::from_str(r#"{"level": "maximum"}"#).unwrap(), &nowhere).unwrap_err();
        assert!(error.to_string().contains("level: \"maximum\" takes an OCI runtime"), "{error}");
        assert_eq!(error.kind(), Kind::Unsupported);
    }

    #[test]
    fn what_a_level_cannot_enforce_is_named_all_together() {
        let error = of(
            1000,
            serde_json::json!({
                "level": "off", "user": "7",
                "limits": {"tmpfs_size": "1M", "timeout": "5s"},
                "files": {"ro": ["/usr:/x"], "overlay": ["/usr"], "out": "/usr"},
                "network": {"mode": "none"},
            }),
        )
        .unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        let error = error.to_string();
        for part in [
            "limits.tmpfs_size: \"1M\" cannot",
            "files.ro[0]: \"/usr:/x\" cannot",
            "files.overlay[0]: \"/usr\" cannot",
            "files.out: \"/usr\" cannot",
            "network.mode: \"none\" cannot be enforced: level \"off\" does not",
            "user: \"7\" cannot be enforced: ids other than the caller's take root",
        ] {
            assert!(error.contains(part), "{part}\n{error}");
        }
        assert!(!error.contains("timeout"), "{error}");
    }

    #[test]
    fn nothing_is_asked_for_that_is_not_said() {
        assert!(asked(&Policy::default(), &caller(0)).is_empty());
    }
}
