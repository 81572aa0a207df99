//! What confining a process comes to: everything that can be decided before anything is made.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Spec};

use super::super::backend::{Ability, Choice};
use super::super::filter::{from_file, process_filter};
use super::super::policy::{Level, Network, NetworkMode, Rlimit, Seccomp, ids};
use super::super::running::Job;
use super::super::{spec, view};
use crate::cgroup::{self, CgroupPlan};
use crate::error::{Error, Faults, Result};
use crate::host::cgroups::{Hierarchies, Version};
use crate::process::{self, ProcessPlan};
use crate::seccomp::{self, SeccompPlan};

/// Controllers whose limits or counts a sandbox may have.
const CONTROLLERS: [&str; 6] = ["memory", "pids", "cpuacct", "cpu", "blkio", "io"];

/// A process that will be confined.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// Whether there is any confinement beside limits: not at level `off`.
    pub confined: bool,
    /// The process itself. Its working directory is empty where it gets one that is made for it.
    pub process: ProcessPlan,
    /// It becomes another user, or root without privileges; else it stays who it is.
    pub becomes: bool,
    /// What it reaches of files and TCP.
    pub reach: Reach,
    /// Its filter.
    pub filter: Option<SeccompPlan>,
    /// Its control groups, where they can be had.
    pub cgroup: Option<CgroupPlan>,
    /// It has a directory of its own, as working directory or for what is temporary.
    pub private: bool,
}

/// What landlock lets through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Files and directories to read and execute, which have to be there.
    pub read: Vec<PathBuf>,
    /// Files and directories to write too, which have to be there.
    pub write: Vec<PathBuf>,
    /// Files and directories of the system's to read and execute, if they are there.
    pub system: Vec<&'static str>,
    /// Files and directories of the system's to read alone, if they are there.
    pub settings: Vec<&'static str>,
    /// Devices to read and write, if they are there.
    pub devices: Vec<&'static str>,
    /// TCP ports to connect to; none: as the filter has it.
    pub tcp: Option<Vec<u16>>,
    /// TCP ports to listen on; none: as the filter has it.
    pub listen: Option<Vec<u16>>,
}

/// Files of procfs and sysfs that programs read to know what they run on. Of other processes' directories in /proc what
/// is private (environ, mem, fd, …) is out of reach of a process in a landlock domain, whatever is let through here.
const MACHINE: [&str; 4] =
    ["/proc", "/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage"];

/// Decides about a job at level `default` or `off`.
///
/// # Errors
/// What a process cannot be held to, by its field.
pub fn plan(job: &Job, choice: &Choice, id: &str) -> Result<Plan> {
    let policy = &job.policy;
    let confined = choice.level != Level::Off;
    let mut faults = Faults::default();
    let (own, root) = (nix::unistd::geteuid(), nix::unistd::geteuid().is_root());
    let (uid, gid) = policy.user.as_deref().and_then(ids).unwrap_or((own.as_raw(), nix::unistd::getegid().as_raw()));
    let reach = if confined { reach(job, &mut faults) } else { Reach::default() };
    let rlimits = rlimits(job, root, &mut faults);
    let filter = match &policy.seccomp {
        Some(Seccomp::Default) => Some(process_filter(&policy.network, uid == 0)),
        Some(Seccomp::File(path)) => Some(from_file(path)?),
        Some(Seccomp::None) | None => None,
    };
    let filter = filter.map(|profile| seccomp::plan(&profile, true, &mut faults));
    if filter.as_ref().is_some_and(|filter| filter.listener.is_some()) {
        faults.unsupported("seccomp", "a profile with SCMP_ACT_NOTIFY: there is nobody here to be told");
    }
    if let (Some(Seccomp::None | Seccomp::File(_)), Some(NetworkMode::None)) = (&policy.seccomp, policy.network.mode)
        && confined
    {
        faults.unsupported(
            "network.mode",
            "\"none\" cannot be enforced: at level \"default\" it is the default filter that keeps the network away, and \
             seccomp says another",
        );
    }
    let cgroup = control_group(job, choice, id, &mut faults)?;
    faults.into_result()?;
    let text = |argument: &std::ffi::OsString| {
        let text = argument.to_str().map(str::to_owned);
        text.ok_or_else(|| Error::config(format!("the argument {argument:?} is not UTF-8")))
    };
    let process = ProcessPlan {
        args: job.command.iter().map(text).collect::<Result<Vec<_>>>()?,
        env: job.environment.clone(),
        cwd: policy.files.cwd.clone().unwrap_or_default(),
        uid,
        gid,
        umask: 0o022,
        rlimits,
        no_new_privileges: confined,
        ..ProcessPlan::default()
    };
    let other = uid != own.as_raw() || gid != nix::unistd::getegid().as_raw();
    // Root that has no capabilities, as in a sandbox, has none to give up.
    let privileged = crate::sys::process::capabilities().is_ok_and(|sets| sets.permitted != 0);
    let becomes = root && (other || confined && privileged);
    Ok(Plan { confined, process, becomes, reach, filter, cgroup, private: confined })
}

fn reach(job: &Job, faults: &mut Faults) -> Reach {
    let files = &job.policy.files;
    let sources = |list: &[super::super::policy::Bind]| list.iter().map(|bind| bind.source.clone()).collect();
    let mut reach = Reach {
        read: sources(&files.ro),
        write: sources(&files.rw),
        system: view::DIRECTORIES.to_vec(),
        settings: view::SETTINGS.iter().chain(&MACHINE).copied().collect(),
        devices: view::DEVICES.to_vec(),
        tcp: None,
        listen: None,
    };
    let Network { mode, allow_tcp } = &job.policy.network;
    if *mode != Some(NetworkMode::Host) {
        (reach.tcp, reach.listen) = (Some(vec![]), Some(vec![]));
    } else if !allow_tcp.is_empty() {
        reach.tcp = Some(allow_tcp.clone());
    }
    for (at, denied) in files.deny.iter().enumerate() {
        let real = denied.canonicalize().unwrap_or_else(|_| denied.clone());
        // A directory of the system's that is denied whole is simply not let through.
        let apart = |path: &&'static str| !Path::new(path).starts_with(&real) && !Path::new(path).starts_with(denied);
        reach.system.retain(apart);
        reach.settings.retain(apart);
        reach.devices.retain(apart);
        let system = reach.system.iter().chain(&reach.settings).chain(&reach.devices).map(Path::new);
        let mut shown = reach.read.iter().chain(&reach.write).map(PathBuf::as_path).chain(system);
        let above = shown.find(|path| {
            real.starts_with(path)
                || denied.starts_with(path)
                || path.canonicalize().is_ok_and(|path| real.starts_with(path))
        });
        if let Some(above) = above {
            faults.unsupported(
                format!("files.deny[{at}]"),
                format_args!(
                    "{denied:?} lies in {above:?}, which is shown: level \"default\" cannot take out a part (\"enhanced\" can)"
                ),
            );
        }
    }
    reach
}

fn rlimits(job: &Job, root: bool, faults: &mut Faults) -> Vec<process::Rlimit> {
    let limits = job.policy.limits.rlimits.iter();
    let mut list = Vec::new();
    for (&kind, amount) in limits {
        let (name, number, resource) = match kind {
            Rlimit::As => ("as", libc::RLIMIT_AS, nix::sys::resource::Resource::RLIMIT_AS),
            Rlimit::Core => ("core", libc::RLIMIT_CORE, nix::sys::resource::Resource::RLIMIT_CORE),
            Rlimit::Cpu => ("cpu", libc::RLIMIT_CPU, nix::sys::resource::Resource::RLIMIT_CPU),
            Rlimit::Data => ("data", libc::RLIMIT_DATA, nix::sys::resource::Resource::RLIMIT_DATA),
            Rlimit::Fsize => ("fsize", libc::RLIMIT_FSIZE, nix::sys::resource::Resource::RLIMIT_FSIZE),
            Rlimit::Memlock => ("memlock", libc::RLIMIT_MEMLOCK, nix::sys::resource::Resource::RLIMIT_MEMLOCK),
            Rlimit::Nofile => ("nofile", libc::RLIMIT_NOFILE, nix::sys::resource::Resource::RLIMIT_NOFILE),
            Rlimit::Nproc => ("nproc", libc::RLIMIT_NPROC, nix::sys::resource::Resource::RLIMIT_NPROC),
            Rlimit::Stack => ("stack", libc::RLIMIT_STACK, nix::sys::resource::Resource::RLIMIT_STACK),
        };
        let hard = nix::sys::resource::getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
        let mut value = amount.0;
        if value > hard && !root {
            // The default one is at most what the caller has.
            if kind == Rlimit::Nofile && value == 1024 {
                value = hard;
            } else {
                let path = format!("limits.rlimits.{name}");
                faults.unsupported(path, format_args!("{amount} is more than {hard}, the caller's own"));
            }
        }
        list.push(process::Rlimit { name: name.to_owned(), resource: number, soft: value, hard: value });
    }
    list
}

/// The control groups, if one of their limits is in force.
fn control_group(job: &Job, choice: &Choice, id: &str, faults: &mut Faults) -> Result<Option<CgroupPlan>> {
    let limits = &job.policy.limits;
    let wanted = [
        (Ability::Memory, limits.memory.is_some()),
        (Ability::Swap, limits.swap.is_some()),
        (Ability::Cpus, limits.cpus.is_some()),
        (Ability::Pids, limits.pids.is_some()),
        (Ability::Io, limits.io_bps.is_some()),
    ];
    if !wanted.iter().any(|(ability, wanted)| *wanted && choice.enforces.contains(ability)) {
        return Ok(None);
    }
    let mut hierarchies = Hierarchies::find()?;
    hierarchies.list.retain(|hierarchy| {
        hierarchy.version == Version::V2 || CONTROLLERS.iter().any(|controller| hierarchy.has(controller))
    });
    if !nix::unistd::geteuid().is_root() {
        hierarchies = hierarchies.with_delegation()?;
    }
    let mut linux = Linux::default();
    linux.set_resources(Some(spec::resources(limits, 0)));
    let mut spec = Spec::default();
    spec.set_linux(Some(linux));
    Ok(Some(cgroup::plan(&spec, id, &hierarchies, faults)))
}
