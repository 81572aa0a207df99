//! What can be enforced on this host, for whoever asks: each thing found by doing it, since what a kernel says of itself, and
//! what a file says of a kernel, is often not so.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use oci_spec::runtime::{Linux, Spec};
use serde::Serialize;

use super::backend::{Ability, Choice, find_program, group_limits, possible};
use super::caller::Caller;
use super::policy::{Cpus, Level, Limits, Network, Policy, Size};
use super::{confine, filter, spec};
use crate::cgroup::{self, Cgroup};
use crate::error::{Context, Error, Faults, Result};
use crate::host::cgroups::{ContainerCgroup, Hierarchies, Layout, Version};
use crate::seccomp;
use crate::sys;
use crate::sys::child::{Ending, Which, wait};
use crate::sys::process::{Cloned, clone, exit_now};

/// How long another program is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be enforced here, for this caller.
#[derive(Debug, Clone, Serialize)]
pub struct Capabilities {
    /// The memory of a sandbox: a control group with that limit was made.
    pub can_limit_memory: bool,
    /// Its processor time, likewise.
    pub can_limit_cpu: bool,
    /// Its disks' bandwidth, likewise.
    pub can_limit_io: bool,
    /// Its processes, likewise.
    pub can_limit_pids: bool,
    /// Its network: a process in a network namespace was made.
    pub can_limit_network: bool,
    /// Its files: a process in a mount namespace has mounted a file system there.
    pub can_isolate_fs: bool,
    /// Its view of processes: a process in a PID namespace was made.
    pub can_isolate_pid: bool,
    /// The version of landlock's interface whose domain a process has entered; 0 if there is none.
    pub landlock_abi: u32,
    /// The actions that a filter can have; none if no filter could be installed.
    pub seccomp_actions: Vec<String>,
    /// Control groups.
    pub cgroup: ControlGroups,
    /// Other programs that can run a sandbox or make images, by name: none if one is not found.
    pub programs: BTreeMap<&'static str, Option<Program>>,
    /// What each level would take.
    pub levels: BTreeMap<&'static str, LevelHere>,
    /// Why what cannot be done cannot be done, by the field's name.
    pub reasons: BTreeMap<&'static str, String>,
}

/// The control groups of this host.
#[derive(Debug, Clone, Serialize)]
pub struct ControlGroups {
    /// `2`, `1`, or `hybrid`.
    pub version: &'static str,
    /// The controllers that the caller may use: all, as root; else those delegated.
    pub controllers: Vec<String>,
}

/// Another program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// The first line of its answer; none if it has not answered, or with a failure.
    pub answer: Option<String>,
}

/// What a level comes to.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum LevelHere {
    /// This backend, for that reason.
    Can(Box<Choice>),
    /// It cannot be had.
    Cannot {
        /// Why not.
        error: String,
    },
}

impl Capabilities {
    /// Finds out. It makes processes, control groups and a mount namespace, and leaves nothing; it takes a tenth of a second,
    /// or as long as other programs take to answer. The calling process has one thread.
    ///
    /// # Errors
    /// If /sys/fs/cgroup or /proc cannot be read.
    pub fn probe(caller: &Caller) -> Result<Self> {
        let mut reasons = BTreeMap::new();
        let mut can = |name: &'static str, answer: Result<()>| match answer {
            Ok(()) => true,
            Err(error) => {
                reasons.insert(name, error.to_string());
                false
            }
        };
        let own = if caller.is_root() { 0 } else { libc::CLONE_NEWUSER as u64 };
        let inside = |flag: i32, act: &dyn Fn() -> Result<()>| {
            attempt(own | flag as u64, || {
                if own != 0 {
                    become_root(caller)?;
                }
                act()
            })
        };
        let limits = |ability| limit(caller, ability);
        let landlock = attempt(0, confine::enter_empty_domain);
        let filter = attempt(0, install_filter);
        Ok(Self {
            can_limit_memory: can("can_limit_memory", limits(Ability::Memory)),
            can_limit_cpu: can("can_limit_cpu", limits(Ability::Cpus)),
            can_limit_io: can("can_limit_io", limits(Ability::Io)),
            can_limit_pids: can("can_limit_pids", limits(Ability::Pids)),
            can_limit_network: can("can_limit_network", inside(libc::CLONE_NEWNET, &|| Ok(()))),
            can_isolate_fs: can("can_isolate_fs", inside(libc::CLONE_NEWNS, &mount_something)),
            can_isolate_pid: can("can_isolate_pid", inside(libc::CLONE_NEWPID, &is_first)),
            landlock_abi: if can("landlock_abi", landlock) { sys::landlock::abi() } else { 0 },
            seccomp_actions: if can("seccomp_actions", filter) {
                seccomp::support::supported_actions()
            } else {
                vec![]
            },
            cgroup: ControlGroups::find(caller)?,
            programs: programs(caller),
            levels: levels(caller, namespaces(caller).err().as_ref()),
            reasons,
        })
    }
}

/// Whether the caller can have namespaces that it may mount in, tried: what a container of procrt's takes.
///
/// # Errors
/// Why not.
pub(super) fn namespaces(caller: &Caller) -> Result<()> {
    let own = if caller.is_root() { 0 } else { libc::CLONE_NEWUSER as u64 };
    let all = [libc::CLONE_NEWNS, libc::CLONE_NEWPID, libc::CLONE_NEWNET];
    attempt(own | all.into_iter().fold(0, |all, flag| all | flag as u64), || {
        if own != 0 {
            become_root(caller)?;
        }
        mount_something()
    })
}

/// Does `act` in a process of its own, which is in new namespaces of these `CLONE_NEW*` flags, and answers how that went.
fn attempt(flags: u64, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let (report, reporter) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context(|| "make a pipe")?;
    match clone(flags, None, false).context(|| "make a process there")? {
        Cloned::Child => {
            let status = match act() {
                Ok(()) => 0,
                Err(error) => {
                    let text = serde_json::to_vec(&error).unwrap_or_default();
                    let _ = nix::unistd::write(&reporter, &text);
                    1
                }
            };
            exit_now(status)
        }
        Cloned::Parent { pid, .. } => {
            drop(reporter);
            let mut text = Vec::new();
            std::fs::File::from(report).read_to_end(&mut text).context(|| "read a process's report")?;
            match wait(Which::Pid(pid), true).context(|| "wait for a process")? {
                Some((_, Ending::Exited(0))) => Ok(()),
                Some((_, ending)) => Err(serde_json::from_slice(&text)
                    .unwrap_or_else(|_| Error::system(format!("the process that tried it ended with {ending:?}")))),
                None => Err(Error::system("the process that tried it is gone")),
            }
        }
    }
}

/// In a new user namespace: takes root's id there.
fn become_root(caller: &Caller) -> Result<()> {
    let write = |file: &str, text: String| {
        let path = format!("/proc/self/{file}");
        std::fs::write(&path, text).context(|| format!("write {path}"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {} 1", caller.uid))?;
    write("gid_map", format!("0 {} 1", caller.gid))
}

fn mount_something() -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context(|| "make mounts private")?;
    mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)
        .context(|| "mount a tmpfs")
}

fn is_first() -> Result<()> {
    match nix::unistd::getpid().as_raw() {
        1 => Ok(()),
        pid => Err(Error::system(format!("the first process of a PID namespace has the number {pid}"))),
    }
}

fn install_filter() -> Result<()> {
    let mut faults = Faults::default();
    let plan = seccomp::plan(&filter::process_filter(&Network::default(), false), true, &mut faults);
    faults.into_result()?;
    nix::sys::prctl::set_no_new_privs().context(|| "set no_new_privs")?;
    seccomp::install(plan.finished())?;
    match nix::unistd::chroot("/") {
        Err(nix::errno::Errno::EPERM) => Ok(()),
        other => Err(Error::system(format!("the filter is installed and does nothing ({other:?})"))),
    }
}

/// Makes a control group with one limit, and removes it.
fn limit(caller: &Caller, ability: Ability) -> Result<()> {
    for (other, answer) in group_limits(caller) {
        if let (true, Err(why)) = (other == ability, answer) {
            return Err(Error::unsupported(why));
        }
    }
    let mut limits = Limits::default();
    match ability {
        Ability::Memory => limits.memory = Some(Size(64 << 20)),
        Ability::Cpus => limits.cpus = Some(Cpus(500)),
        Ability::Pids => limits.pids = Some(16),
        // Which disk is the policy's; the group has the controller, or the controller cannot be had.
        _ => limits.io_bps = Some(Size(1 << 20)),
    }
    let mut linux = Linux::default();
    linux.set_resources(Some(spec::resources(&limits, 0)));
    let mut spec = Spec::default();
    spec.set_linux(Some(linux));
    let mut hierarchies = Hierarchies::find()?;
    if !caller.is_root() {
        hierarchies = hierarchies.with_delegation()?;
    }
    let mut faults = Faults::default();
    let plan = cgroup::plan(&spec, &confine::own_id(), &hierarchies, &mut faults);
    faults.into_result()?;
    let made = Cgroup::create(&plan)?;
    let removed = made.remove();
    made.unmake();
    removed
}

impl ControlGroups {
    fn find(caller: &Caller) -> Result<Self> {
        let mut hierarchies = Hierarchies::find()?;
        if !caller.is_root() {
            hierarchies = hierarchies.with_delegation()?;
        }
        let version = match hierarchies.layout {
            Layout::Unified => "2",
            Layout::Hybrid => "hybrid",
            Layout::Legacy => "1",
        };
        let mut controllers = Vec::new();
        for (at, hierarchy) in hierarchies.list.iter().enumerate() {
            match hierarchies.delegation.as_ref().map(|all| &all[at]) {
                Some(None) => {}
                Some(Some(base)) if hierarchy.version == Version::V2 => {
                    let dir = ContainerCgroup { hierarchy: hierarchy.clone(), path: base.clone() }.dir();
                    let text = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
                    controllers.extend(text.split_whitespace().map(str::to_owned));
                }
                _ => controllers.extend(hierarchy.controllers.iter().filter(|name| !name.contains('=')).cloned()),
            }
        }
        controllers.sort();
        Ok(Self { version, controllers })
    }
}

fn programs(caller: &Caller) -> BTreeMap<&'static str, Option<Program>> {
    let asked: [(&str, &[&str]); 6] = [
        ("runsc", &["--version"]),
        ("runc", &["--version"]),
        ("crun", &["--version"]),
        // Its daemon has to answer, not its client.
        ("docker", &["version", "--format", "{{.Server.Version}}"]),
        ("podman", &["--version"]),
        ("buildah", &["--version"]),
    ];
    let one = |name: &str, args: &[&str]| {
        let path = find_program(Path::new(name), caller)?;
        let answer = ask(&path, args);
        Some(Program { path, answer })
    };
    asked.into_iter().map(|(name, args)| (name, one(name, args))).collect()
}

/// The first line of what a program says, if it says it in time and succeeds.
fn ask(path: &Path, args: &[&str]) -> Option<String> {
    let mut child =
        Command::new(path).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut text = String::new();
    child.stdout.take()?.take(4096).read_to_string(&mut text).ok()?;
    let line = text.lines().next()?.trim();
    (status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// What each level would take; `namespaces` is why they cannot be had.
fn levels(caller: &Caller, namespaces: Option<&Error>) -> BTreeMap<&'static str, LevelHere> {
    let all = [
        ("off", Level::Off),
        ("default", Level::Default),
        ("enhanced", Level::Enhanced),
        ("container", Level::Container),
        ("maximum", Level::Maximum),
    ];
    let one = |level| {
        let inside = matches!(level, Level::Enhanced | Level::Container);
        if let (true, Some(error)) = (inside, namespaces) {
            return LevelHere::Cannot { error: format!("no namespaces can be had here: {error}") };
        }
        match possible(&Policy { level: Some(level), ..Policy::default() }, caller) {
            Ok(choice) => LevelHere::Can(Box::new(Choice { reason: why(level).to_owned(), ..choice })),
            Err(error) => LevelHere::Cannot { error: error.to_string() },
        }
    };
    all.into_iter().map(|(name, level)| (name, one(level))).collect()
}

fn why(level: Level) -> &'static str {
    match level {
        Level::Off => "it has limits alone, and has to be asked for",
        Level::Default => "landlock and seccomp are here, and it takes no privileges",
        Level::Enhanced => "namespaces can be had, and nothing is asked for that it lacks",
        Level::Container => "as enhanced, with the root file system that it is given",
        Level::Maximum => "an OCI runtime with a kernel of its own is here",
    }
}
