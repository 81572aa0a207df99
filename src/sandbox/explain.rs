//! What is decided about a sandbox, in words.

use std::fmt::Write as _;

use super::backend::{Backend, Choice};
use super::policy::{Bind, NetworkMode};
use super::running::Job;

/// What will be done, for a person: a few lines.
pub fn explain(job: &Job, choice: &Choice) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{what:<14}{value}");
    };
    let policy = &job.policy;
    let by = match &choice.backend {
        Backend::Process => "the process itself is confined".to_owned(),
        Backend::Engine => "in a container of procrt's".to_owned(),
        Backend::Runtime { path } => format!("in a container of {}", path.display()),
    };
    line("level", format!("{}: {by}; {}", super::backend::word(choice.level).trim_matches('"'), choice.reason));
    let words: Vec<String> = job.command.iter().map(|word| format!("{:?}", word.to_string_lossy())).collect();
    line("runs", words.join(" "));
    line(
        "begins in",
        policy.files.cwd.as_ref().map_or("a directory of its own, which is removed".to_owned(), |cwd| {
            let shared = *cwd == job.caller_cwd || policy.files.workspace.is_some() || policy.files.rootfs.is_some();
            let why = if shared { "" } else { " (the caller's directory is not shown)" };
            format!("{}{why}", cwd.display())
        }),
    );
    let limits = &policy.limits;
    let mut list = Vec::new();
    for (name, size) in [("memory", limits.memory), ("swap", limits.swap)] {
        list.extend(size.map(|size| format!("{name} {size}")));
    }
    list.extend(limits.cpus.map(|cpus| format!("processors {cpus}")));
    list.extend(limits.pids.map(|pids| format!("processes {pids}")));
    list.extend(limits.io_bps.map(|size| format!("disks {size}/s")));
    list.extend(limits.timeout.map(|time| {
        let grace = limits.grace.map(|grace| format!(" (then TERM, and KILL {grace} later)")).unwrap_or_default();
        format!("time {time}{grace}")
    }));
    list.extend(limits.output.map(|size| format!("output {size}")));
    list.extend(limits.tmpfs_size.map(|size| format!("each tmpfs {size}")));
    list.extend(limits.rlimits.iter().map(|(name, amount)| {
        format!("{} {amount}", serde_json::to_value(name).unwrap_or_default().as_str().unwrap_or_default())
    }));
    line("limits", list.join(", "));
    let files = &policy.files;
    let binds = |list: &[Bind]| -> String {
        let shown: Vec<String> = list.iter().map(shown).collect();
        shown.join(", ")
    };
    match (&files.rootfs, choice.level) {
        (Some(rootfs), _) => line("root", format!("{}, read-only", rootfs.display())),
        (None, super::policy::Level::Off) => line("root", "the host's, as it is".to_owned()),
        (None, _) => line("reads", "the host's programs, libraries and what they are set up by".to_owned()),
    }
    for (what, list) in [("reads", &files.ro), ("writes", &files.rw), ("throws away", &files.overlay)] {
        if !list.is_empty() {
            line(what, binds(list));
        }
    }
    for (what, path) in [("a copy of", &files.workspace), ("writes", &files.out)] {
        if let Some(path) = path {
            let place = if what == "writes" { "/out" } else { "/workspace" };
            line(what, format!("{} at {place}", path.display()));
        }
    }
    if !files.deny.is_empty() {
        let paths: Vec<String> = files.deny.iter().map(|path| path.display().to_string()).collect();
        line("never", paths.join(", "));
    }
    line(
        "network",
        match policy.network.mode {
            None | Some(NetworkMode::None) => "none".to_owned(),
            Some(NetworkMode::Loopback) => "a loopback interface of its own".to_owned(),
            Some(NetworkMode::Host) if policy.network.allow_tcp.is_empty() => "the host's".to_owned(),
            Some(NetworkMode::Host) => format!("the host's, to TCP ports {:?} alone", policy.network.allow_tcp),
        },
    );
    if let Some(user) = &policy.user {
        line("user", user.clone());
    }
    let seccomp = policy.seccomp.clone().map(String::from).unwrap_or_default();
    line("system calls", format!("filter {seccomp}"));
    let names: Vec<&str> =
        job.environment.iter().map(|variable| variable.split('=').next().unwrap_or_default()).collect();
    line("environment", names.join(" "));
    for (ability, why) in &choice.cannot {
        let name = serde_json::to_value(ability).unwrap_or_default();
        line("not enforced", format!("{}: {why}", name.as_str().unwrap_or_default()));
    }
    text
}

fn shown(bind: &Bind) -> String {
    match &bind.destination {
        Some(destination) if *destination != bind.source => {
            format!("{} at {}", bind.source.display(), destination.display())
        }
        _ => bind.source.display().to_string(),
    }
}
