//! An effective policy as a container's configuration: the same that any other has, and nothing hidden beside it but the
//! root in memory. Nothing here looks at the machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capabilities, Linux, LinuxBlockIo, LinuxCapabilities, LinuxCpu, LinuxDeviceCgroupBuilder, LinuxIdMappingBuilder,
    LinuxMemory, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPids, LinuxResources, LinuxSeccomp,
    LinuxThrottleDeviceBuilder, Mount, PosixRlimitBuilder, PosixRlimitType, Process, Root, Spec, User,
};

use super::policy::{Bind, Limits, NetworkMode, Policy, Rlimit, Size};
use super::running::Job;
use super::system::{Kind, System};
use crate::bundle::{Bundle, OCI_VERSION};
use crate::container::Given;
use crate::error::{Error, Result};
use crate::rootfs::Fresh;
use crate::seccomp::SeccompPlan;

/// Where a disposable copy is.
pub const WORKSPACE: &str = "/workspace";
/// Where results are.
pub const OUT: &str = "/out";

/// The controllers of control groups that limit or count something.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpuacct"];

/// Files of procfs that tell of the host or its other users. What could be written there is on a read-only mount, and what
/// takes a privilege to be read is not read.
const MASKED: [&str; 3] = ["/proc/kcore", "/proc/keys", "/proc/timer_list"];

/// What the kernel tells of itself to whoever has root's number, without a look at capabilities.
const MASKED_FROM_ROOT: [&str; 5] =
    ["/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/slabinfo", "/proc/vmallocinfo"];

/// Files that a temporary file system takes for each KiB of it, so that it is full of small files no later than of bytes.
const BYTES_PER_FILE: u64 = 1024;

/// What else a configuration is made of.
#[derive(Debug, Clone)]
pub struct Around<'a> {
    /// What the host has.
    pub system: &'a System,
    /// The user and group inside.
    pub ids: (u32, u32),
    /// The caller's own, if a user namespace is to have them alone: a caller without privileges.
    pub mapped: Option<(u32, u32)>,
    /// The disks that its paths are on, by number: what a bandwidth is of.
    pub disks: Vec<(i64, i64)>,
    /// The filter of system calls.
    pub filter: Option<LinuxSeccomp>,
    /// The same, where it is compiled already.
    pub compiled: Option<SeccompPlan>,
}

/// The container that carries `job` out.
///
/// # Errors
/// A command or path that is not UTF-8: a configuration is JSON.
pub fn build(job: &Job, around: &Around) -> Result<Given> {
    let policy = &job.policy;
    let text = |argument: &std::ffi::OsString| {
        let text = argument.to_str().map(str::to_owned);
        text.ok_or_else(|| Error::config(format!("the argument {argument:?} is not UTF-8")))
    };
    let args = job.command.iter().map(text).collect::<Result<Vec<_>>>()?;
    let network = policy.network.mode.unwrap_or(NetworkMode::None);
    let (fresh, mounts) = files(policy, around);
    let mut spec = Spec::default();
    let mut root = Root::default();
    root.set_path("/".into()).set_readonly(Some(true));
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process(job, args, around.ids)))
        .set_hostname((network != NetworkMode::Host).then(|| "sandbox".to_owned()))
        .set_annotations(None)
        .set_mounts(Some(mounts))
        .set_linux(Some(linux(policy, network, around)));
    let mut controllers = CONTROLLERS.to_vec();
    controllers.extend(policy.limits.cpus.map(|_| "cpu"));
    Ok(Given {
        bundle: Bundle { dir: "/".into(), spec, rootfs: "/".into() },
        fresh: Some(fresh),
        filter: around.compiled.clone(),
        no_loopback: network == NetworkMode::None,
        held: false,
        controllers,
    })
}

fn process(job: &Job, args: Vec<String>, (uid, gid): (u32, u32)) -> Process {
    let mut user = User::default();
    user.set_uid(uid).set_gid(gid);
    let mut none = LinuxCapabilities::default();
    none.set_bounding(Some(Capabilities::new()))
        .set_effective(Some(Capabilities::new()))
        .set_permitted(Some(Capabilities::new()))
        .set_inheritable(Some(Capabilities::new()))
        .set_ambient(Some(Capabilities::new()));
    let rlimits = job.policy.limits.rlimits.iter().filter_map(|(limit, amount)| {
        PosixRlimitBuilder::default().typ(rlimit(*limit)).hard(amount.0).soft(amount.0).build().ok()
    });
    let cwd = job.policy.files.cwd.clone().unwrap_or_else(|| job.caller_cwd.clone());
    let mut process = Process::default();
    process
        .set_terminal(Some(job.terminal))
        .set_user(user)
        .set_args(Some(args))
        .set_env(Some(job.environment.clone()))
        .set_cwd(cwd)
        .set_capabilities(Some(none))
        .set_rlimits(Some(rlimits.collect()))
        .set_no_new_privileges(Some(true));
    process
}

fn rlimit(limit: Rlimit) -> PosixRlimitType {
    match limit {
        Rlimit::As => PosixRlimitType::RlimitAs,
        Rlimit::Core => PosixRlimitType::RlimitCore,
        Rlimit::Cpu => PosixRlimitType::RlimitCpu,
        Rlimit::Data => PosixRlimitType::RlimitData,
        Rlimit::Fsize => PosixRlimitType::RlimitFsize,
        Rlimit::Memlock => PosixRlimitType::RlimitMemlock,
        Rlimit::Nofile => PosixRlimitType::RlimitNofile,
        Rlimit::Nproc => PosixRlimitType::RlimitNproc,
        Rlimit::Stack => PosixRlimitType::RlimitStack,
    }
}

fn linux(policy: &Policy, network: NetworkMode, around: &Around) -> Linux {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let types = [Pid, Ipc, Uts, Mount, Cgroup].into_iter();
    let types = types.chain((network != NetworkMode::Host).then_some(Network)).chain(around.mapped.map(|_| User));
    let namespaces: Vec<LinuxNamespace> =
        types.flat_map(|typ| LinuxNamespaceBuilder::default().typ(typ).build()).collect();
    let denied = policy.files.deny.iter().map(|path| path.display().to_string());
    let from_root = if around.mapped.is_none() && around.ids.0 == 0 { &MASKED_FROM_ROOT[..] } else { &[] };
    let masked = MASKED.iter().chain(from_root).map(|&path| path.to_owned()).chain(denied).collect::<Vec<_>>();
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces))
        .set_masked_paths(Some(masked))
        .set_readonly_paths(None)
        .set_seccomp(around.filter.clone())
        .set_resources(Some(resources(&policy.limits, 1)));
    if let (Some(rate), Some(resources)) = (policy.limits.io_bps, linux.resources_mut()) {
        hold_back(resources, rate, &around.disks);
    }
    if let Some((uid, gid)) = around.mapped {
        let one = |inside: u32, host: u32| {
            let map = LinuxIdMappingBuilder::default().container_id(inside).host_id(host).size(1u32).build();
            map.into_iter().collect()
        };
        linux.set_uid_mappings(Some(one(around.ids.0, uid))).set_gid_mappings(Some(one(around.ids.1, gid)));
    }
    linux
}

/// Holds reading from and writing to each of `disks` back to `rate` bytes a second.
pub(super) fn hold_back(resources: &mut LinuxResources, rate: Size, disks: &[(i64, i64)]) {
    let throttle = |(major, minor): &(i64, i64)| {
        let device = LinuxThrottleDeviceBuilder::default().major(*major).minor(*minor).rate(rate.0).build();
        device.ok()
    };
    let all: Vec<_> = disks.iter().filter_map(throttle).collect();
    let mut io = LinuxBlockIo::default();
    io.set_throttle_read_bps_device(Some(all.clone())).set_throttle_write_bps_device(Some(all));
    resources.set_block_io(Some(io));
}

/// The limits of a control group, in which `own` processes are procrt's and not the command's.
pub(super) fn resources(limits: &Limits, own: u32) -> LinuxResources {
    let mut resources = LinuxResources::default();
    // Devices are not made without a privilege, and what is mounted from the host has none.
    let all = LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build();
    resources.set_devices(Some(all.into_iter().collect()));
    if limits.memory.is_some() || limits.swap.is_some() {
        let memory = limits.memory.map(|size| size.0);
        let total = memory.zip(limits.swap).map(|(memory, swap)| memory.saturating_add(swap.0));
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut limit = LinuxMemory::default();
        limit.set_limit(memory.map(bytes)).set_swap(total.map(bytes));
        resources.set_memory(Some(limit));
    }
    if let Some(pids) = limits.pids {
        let mut limit = LinuxPids::default();
        limit.set_limit(i64::from(pids) + i64::from(own));
        resources.set_pids(Some(limit));
    }
    if let Some(cpus) = limits.cpus {
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(Some(i64::from(cpus.0) * 100)).set_period(Some(100_000));
        resources.set_cpu(Some(cpu));
    }
    resources
}

fn mount(destination: impl Into<PathBuf>, typ: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

fn read_only(source: &Path, destination: &Path) -> Mount {
    mount(destination, "bind", source, &["rbind", "rro", "rnosuid", "rnodev"])
}

fn writable(source: &Path, destination: &Path) -> Mount {
    mount(destination, "bind", source, &["rbind", "rnosuid", "rnodev"])
}

/// The options of a file system in memory that can be written to.
fn in_memory(limits: &Limits) -> Vec<String> {
    let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "mode=1777".to_owned()];
    if let Some(size) = limits.tmpfs_size {
        options.push(format!("size={}", size.0));
        options.push(format!("nr_inodes={}", (size.0 / BYTES_PER_FILE).max(64)));
    }
    options
}

fn tmpfs(destination: &str, limits: &Limits) -> Mount {
    let mut mount = mount(destination, "tmpfs", "tmpfs", &[]);
    mount.set_options(Some(in_memory(limits)));
    mount
}

fn overlay(source: &Path, destination: &Path, limits: &Limits) -> Mount {
    let mut mount = mount(destination, "overlay", source, &[]);
    mount.set_options(Some(in_memory(limits)));
    mount
}

/// Where a path is in the sandbox.
fn inside(bind: &Bind) -> &Path {
    bind.destination.as_deref().unwrap_or(&bind.source)
}

/// A root that is being decided on.
#[derive(Default)]
struct Tree {
    fresh: Fresh,
    made: BTreeSet<PathBuf>,
}

impl Tree {
    /// Adds a directory, relative to the root, and those that it is in.
    fn add(&mut self, path: &Path, mode: u32) {
        self.add_parents(path);
        if self.made.insert(path.to_owned()) {
            self.fresh.directories.push((path.to_owned(), mode));
        }
    }

    fn add_parents(&mut self, path: &Path) {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.add(parent, 0o755);
        }
    }
}

/// What the policy itself shows, in an order in which one thing can be inside another.
fn shown(policy: &Policy, around: &Around) -> Vec<(PathBuf, Mount)> {
    let (files, limits) = (&policy.files, &policy.limits);
    let mut all: Vec<(PathBuf, Mount)> = Vec::new();
    let binds = || files.ro.iter().chain(&files.rw).chain(&files.overlay);
    // A home that is seen because something above it is shown. What is named inside comes later, on top.
    for home in around.system.homes.iter().filter(|_| files.hide_home == Some(true)) {
        let within = |bind: &Bind| (home != &bind.source).then(|| home.strip_prefix(&bind.source).ok()).flatten();
        let seen = binds().filter_map(|bind| Some(inside(bind).join(within(bind)?)));
        all.extend(seen.map(|path| {
            let hidden = mount(&path, "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=755", "size=64k", "nr_inodes=64"]);
            (path, hidden)
        }));
    }
    all.extend(files.ro.iter().map(|bind| (inside(bind).to_owned(), read_only(&bind.source, inside(bind)))));
    all.extend(files.rw.iter().map(|bind| (inside(bind).to_owned(), writable(&bind.source, inside(bind)))));
    all.extend(files.overlay.iter().map(|bind| (inside(bind).to_owned(), overlay(&bind.source, inside(bind), limits))));
    all.extend(files.workspace.iter().map(|from| (WORKSPACE.into(), overlay(from, Path::new(WORKSPACE), limits))));
    all.extend(files.out.iter().map(|out| (OUT.into(), writable(out, Path::new(OUT)))));
    all.sort_by_key(|(path, _)| path.components().count());
    all
}

/// The root, and what is mounted on it.
fn files(policy: &Policy, around: &Around) -> (Fresh, Vec<Mount>) {
    let own = shown(policy, around);
    let mut mounts = Vec::new();
    let mut tree = Tree::default();
    if let Some(lower) = &policy.files.rootfs {
        tree.fresh.lower = Some(lower.clone());
        // What an image has there are files, not devices.
        mounts.push(mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "mode=755", "size=64k", "nr_inodes=256"]));
    } else {
        for (path, kind) in &around.system.entries {
            let relative = path.strip_prefix("/").unwrap_or(path);
            tree.add_parents(relative);
            match kind {
                Kind::Link(target) => tree.fresh.links.push((relative.to_owned(), target.clone())),
                Kind::Copied(content) => tree.fresh.files.push((relative.to_owned(), content.clone())),
                Kind::File => mounts.push(read_only(path, path)),
                Kind::Directory => {
                    tree.add(relative, 0o755);
                    mounts.push(read_only(path, path));
                }
            }
        }
        for name in ["dev/pts", "dev/shm", "etc", "proc", "run", "tmp", "usr", "var"] {
            tree.add(Path::new(name), 0o755);
        }
        if !own.iter().any(|(path, _)| path.starts_with("/var/tmp")) {
            tree.fresh.links.push(("var/tmp".into(), "../tmp".into()));
        }
        tree.fresh.files.extend(accounts(around.ids));
    }
    let pts: &[&str] = &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    mounts.extend([
        // procrt's own first process, and with it procrt's command line, is nobody's to see.
        mount("/proc", "proc", "proc", &["nosuid", "nodev", "noexec", "ro", "hidepid=ptraceable"]),
        mount("/dev/pts", "devpts", "devpts", pts),
        tmpfs("/dev/shm", &policy.limits),
        tmpfs("/tmp", &policy.limits),
    ]);
    mounts.extend(own.into_iter().map(|(_, mount)| mount));
    (tree.fresh, mounts)
}

/// Who there is: programs look their own user up. Nobody has a password.
fn accounts((uid, gid): (u32, u32)) -> Vec<(PathBuf, String)> {
    let known = |names: [(u32, &'static str); 3]| {
        let mut seen = BTreeSet::new();
        names.into_iter().filter(move |(id, _)| seen.insert(*id))
    };
    let user = |(id, name): (u32, &str)| {
        let (group, home) = (if id == uid { gid } else { id }, if id == 0 { "/root" } else { "/tmp" });
        format!("{name}:x:{id}:{group}:{name}:{home}:/bin/sh\n")
    };
    let passwd = known([(0, "root"), (65534, "nobody"), (uid, "sandbox")]).map(user).collect();
    let group = known([(0, "root"), (65534, "nogroup"), (gid, "sandbox")]);
    let group = group.map(|(id, name)| format!("{name}:x:{id}:\n")).collect();
    let hosts = "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost sandbox\n".to_owned();
    vec![("etc/passwd".into(), passwd), ("etc/group".into(), group), ("etc/hosts".into(), hosts)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn built(policy: serde_json::Value, ids: (u32, u32), mapped: Option<(u32, u32)>) -> Given {
        let system = System {
            entries: vec![
                ("/usr".into(), Kind::Directory),
                ("/bin".into(), Kind::Link("usr/bin".into())),
                ("/etc/ld.so.cache".into(), Kind::File),
                ("/etc/services".into(), Kind::Copied("ssh 22/tcp\n".into())),
            ],
            homes: vec!["/home/a".into(), "/root".into()],
        };
        let job = Job {
            policy: serde_json::from_value(policy).unwrap(),
            command: vec!["true".into()],
            environment: vec!["PATH=/bin".into()],
            caller_cwd: "/srv/work".into(),
            terminal: false,
        };
        let disks = vec![(8, 0)];
        build(&job, &Around { system: &system, ids, mapped, disks, filter: None, compiled: None }).unwrap()
    }

    #[test]
    fn a_policy_is_a_configuration() {
        let policy = json!({
            "limits": {
                "memory": "64M", "swap": "1M", "pids": 7, "cpus": "50%", "io_bps": "1M", "tmpfs_size": "4M",
                "rlimits": {"core": 0},
            },
            "files": {
                "ro": ["/home:/home"], "rw": ["/home/a/work:/home/a/work"], "overlay": ["/srv/data:/data"],
                "workspace": "/srv/source", "out": "/srv/out", "deny": ["/home/b"], "cwd": "/workspace", "hide_home": true,
            },
        });
        let given = built(policy, (1000, 100), Some((1000, 100)));
        insta::assert_json_snapshot!(json!({"spec": given.bundle.spec, "fresh": given.fresh}));
        assert!(given.no_loopback);
        assert_eq!(given.controllers, ["memory", "pids", "cpuacct", "cpu"]);
    }

    #[test]
    fn what_is_inside_a_home_that_is_hidden_comes_on_top() {
        let files = json!({"ro": ["/home:/home"], "rw": ["/home/a/work:/home/a/work"], "hide_home": true});
        let given = built(json!({"files": files}), (0, 0), None);
        let mounts = given.bundle.spec.mounts().clone().unwrap();
        let places: Vec<_> = mounts.iter().map(|mount| mount.destination().to_str().unwrap()).collect();
        assert_eq!(places[places.len() - 3..], ["/home", "/home/a", "/home/a/work"]);
        let hidden = &mounts[mounts.len() - 2];
        assert_eq!(hidden.typ().as_deref(), Some("tmpfs"));
    }

    #[test]
    fn with_a_root_of_the_users_nothing_of_the_hosts_is_shown() {
        let given = built(json!({"files": {"rootfs": "/srv/root"}, "network": {"mode": "host"}}), (0, 0), None);
        let fresh = given.fresh.unwrap();
        assert_eq!(fresh.lower, Some("/srv/root".into()));
        assert!(fresh.directories.is_empty() && fresh.links.is_empty() && fresh.files.is_empty());
        let mounts = given.bundle.spec.mounts().clone().unwrap();
        assert!(mounts.iter().all(|mount| mount.typ().as_deref() != Some("bind")));
        let linux = given.bundle.spec.linux().clone().unwrap();
        let namespaces = linux.namespaces().clone().unwrap();
        assert!(namespaces.iter().all(|namespace| namespace.typ() != LinuxNamespaceType::Network));
    }
}
