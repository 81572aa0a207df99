//! All slices' plans, and what has to fit between them.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use serde::Serialize;

use super::attend::Given;
use super::{CgroupManager, CreateOptions, readiness};
use crate::bundle::{self, Bundle};
use crate::cgroup::systemd::{self, Manager};
use crate::cgroup::{self, CgroupPlan};
use crate::error::{Faults, Result};
use crate::hooks;
use crate::host::caller::{self, Caller};
use crate::host::cgroups::{ContainerCgroup, Hierarchies, Hierarchy, Layout, Version};
use crate::host::lsm::Missing;
use crate::host::{id_mapping, id_writer};
use crate::init::InitPlan;
use crate::namespaces::{self, Namespace, NamespacesPlan};
use crate::process::{self, Activation, ProcessPlan};
use crate::resctrl::{self, ResctrlPlan};
use crate::rootfs::{self, Fresh, Surroundings};
use crate::seccomp;
use crate::terminal;

/// Everything that `create` will do, as plain data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The container's control groups.
    pub cgroup: CgroupPlan,
    /// Its shares of caches and memory bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<ResctrlPlan>,
    /// The container's side.
    #[serde(flatten)]
    pub init: InitPlan,
}

/// Reads the bundle and decides. Nothing is made.
///
/// # Errors
/// Everything that is wrong in the configuration, together; or that the bundle cannot be read.
pub fn plan(options: &CreateOptions) -> Result<(Bundle, Plan)> {
    plan_with(options, None)
}

/// The same, where `systemd` is the service manager that is to make the control groups.
///
/// # Errors
/// As [`plan`].
pub fn plan_with(options: &CreateOptions, systemd: Option<&Manager>) -> Result<(Bundle, Plan)> {
    plan_for(options, systemd, |_| Caller::find())
}

fn plan_for(
    options: &CreateOptions,
    systemd: Option<&Manager>,
    caller: impl FnOnce(&Spec) -> Result<Caller>,
) -> Result<(Bundle, Plan)> {
    bundle::check_id(&options.id)?;
    let mut faults = Faults::default();
    let mut bundle = bundle::read(&options.bundle, &mut faults).map_err(|error| {
        match std::mem::take(&mut faults).into_result() {
            // What is wrong with the file as a whole comes first.
            Err(more) => error.context(more),
            Ok(()) => error,
        }
    })?;
    match &options.notify_directory {
        Some(directory) if makes_or_joins(&bundle.spec, LinuxNamespaceType::Mount) => {
            bind_notify_directory(&mut bundle.spec, directory);
        }
        Some(_) => log::warn!("NOTIFY_SOCKET: there is no way to a socket without a mount namespace"),
        None => {}
    }
    let mut hierarchies = Hierarchies::find()?;
    let caller = caller(&bundle.spec)?;
    if options.cgroup_manager == CgroupManager::Nobody {
        hierarchies = hierarchies.without_any()?;
    } else if systemd.is_none() && cgroup::needs_own_paths(&bundle.spec) {
        hierarchies = hierarchies.with_own_paths()?;
    } else if systemd.is_none() && cgroup::names_none(&bundle.spec) && is_rootless(options, &caller)? {
        hierarchies = hierarchies.with_delegation()?;
    }
    let host = Host { hierarchies: &hierarchies, systemd, caller: &caller };
    let plan = decide(&bundle, options, &host, &mut faults);
    faults.into_result()?;
    // Without faults there is a process, so there is a plan.
    plan.map(|plan| (bundle, plan)).ok_or_else(|| crate::Error::config("process: is missing"))
}

/// File systems that show what is in a namespace, and where the host has its own.
const OF_NAMESPACES: [(Namespace, (&str, &str)); 3] = [
    (Namespace::Network, ("sysfs", "/sys")),
    (Namespace::Ipc, ("mqueue", "/dev/mqueue")),
    (Namespace::Pid, ("proc", "/proc")),
];

/// Whether control groups are made only where this user may: root of the host may everywhere.
pub(super) fn is_rootless(options: &CreateOptions, caller: &Caller) -> Result<bool> {
    match options.rootless {
        Some(rootless) => Ok(rootless),
        None => Ok(caller.uid != 0 || !caller::in_initial_user_namespace()?),
    }
}

/// What a plan depends on beside the bundle.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// The machine's control groups.
    pub hierarchies: &'a Hierarchies,
    /// The service manager that is to make the container's.
    pub systemd: Option<&'a Manager>,
    /// Who makes the container.
    pub caller: &'a Caller,
}

/// What to do with a bundle on this host. Pure: everything wrong goes to `faults`.
pub fn decide(bundle: &Bundle, options: &CreateOptions, host: &Host, faults: &mut Faults) -> Option<Plan> {
    decide_given(bundle, None, options, host, faults)
}

/// The same for what a program has decided.
///
/// # Errors
/// Everything that is wrong, together.
pub(super) fn plan_given(options: &CreateOptions, given: &Given, host: &Host) -> Result<Plan> {
    let mut faults = Faults::default();
    let plan = decide_given(&given.bundle, given.fresh.as_ref(), options, host, &mut faults);
    faults.into_result()?;
    let mut plan = plan.ok_or_else(|| crate::Error::config("process: is missing"))?;
    plan.init.attended = true;
    plan.init.held = given.held;
    plan.init.no_loopback = given.no_loopback;
    if given.filter.is_some() {
        plan.init.seccomp.clone_from(&given.filter);
    }
    Ok(plan)
}

fn decide_given(
    bundle: &Bundle,
    fresh: Option<&Fresh>,
    options: &CreateOptions,
    host: &Host,
    faults: &mut Faults,
) -> Option<Plan> {
    let spec = &bundle.spec;
    let Host { hierarchies, systemd, caller } = *host;
    let namespaces = namespaces::plan(spec, faults);
    let cgroup = match systemd {
        None if options.cgroup_manager == CgroupManager::Nobody => cgroup::plan_none(spec, faults),
        None => cgroup::plan(spec, &options.id, hierarchies, faults),
        Some(manager) => cgroup::plan_scope(spec, &options.id, hierarchies, manager, faults),
    };
    let resctrl = resctrl::plan(spec, &options.id, faults);
    let process = process::plan(spec, options.missing_lsm, faults);
    let mounts = CgroupMounts::new(&cgroup, hierarchies, &namespaces);
    let shared: Vec<_> =
        OF_NAMESPACES.iter().filter(|(kind, _)| !namespaces.has(*kind)).map(|(_, shown)| *shown).collect();
    let around = Surroundings {
        bundle: &bundle.dir,
        rootfs: &bundle.rootfs,
        mount_namespace: namespaces.has(Namespace::Mount),
        user_namespace: namespaces.has(Namespace::User),
        id_mappings: (&namespaces.uid_mappings, &namespaces.gid_mappings),
        shared: &shared,
        cgroups: &mounts.binds,
        cgroup2: mounts.cgroup2.as_deref(),
        cgroup_links: &mounts.links,
        fresh,
        no_pivot: options.no_pivot,
        missing_lsm: options.missing_lsm,
    };
    let rootfs = rootfs::plan(spec, &around, faults);
    let hooks = spec.hooks().as_ref().map(|hooks| hooks::plan(hooks, faults)).unwrap_or_default();
    let terminal = spec.process().as_ref().and_then(|process| terminal::plan(process, faults));
    let process = process?;
    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let seccomp = filter.map(|filter| seccomp::plan(filter, process.no_new_privileges, faults));
    check_ids(&process, &namespaces, faults);
    check_plain(&process, &namespaces, caller, faults);
    let mut activation = options.activation.clone();
    if !namespaces.has(Namespace::Mount) {
        activation = activation.map(|activation| Activation { notify_socket: None, ..activation });
    }
    let sockets = activation.as_ref().map_or(0, |activation| activation.sockets);
    warn_of_missing_capabilities(&process, namespaces.has(Namespace::User) || caller.is_plain());
    Some(Plan {
        init: InitPlan {
            id: options.id.clone(),
            bundle: bundle.dir.clone(),
            opens_sources: caller.is_plain() && namespaces.restricts_mounts(),
            waits: cgroup.scope.is_some()
                || namespaces.makes(Namespace::User)
                || !namespaces.net_devices.is_empty()
                || resctrl.is_some()
                || hierarchies.list.iter().any(|hierarchy| hierarchy.version == Version::V1),
            namespaces,
            rootfs,
            terminal,
            hooks,
            process,
            seccomp,
            keep_keyring: options.no_new_keyring,
            preserve_fds: sockets.saturating_add(options.preserve_fds),
            activation,
            attended: false,
            held: false,
            no_loopback: false,
        },
        cgroup,
        resctrl,
    })
}

impl Plan {
    /// The plan in words: what is done, in the order in which it is done, each with its details.
    pub fn steps(&self) -> Vec<(&'static str, Vec<String>)> {
        let init = &self.init;
        let mut steps = vec![("Make the control groups", self.cgroup.describe())];
        steps.extend(self.resctrl.as_ref().map(|plan| ("Share caches and memory bandwidth", plan.describe())));
        steps.extend([
            ("Clone the first process into its namespaces", init.namespaces.describe()),
            ("Make the root", init.rootfs.describe()),
        ]);
        if let Some(terminal) = &init.terminal {
            steps.push(("Give it a terminal", vec![terminal.describe()]));
        }
        let hooks = init.hooks.describe();
        if !hooks.is_empty() {
            steps.push(("Run the hooks, each at its time", hooks));
        }
        steps.push(("Become the container's process, and wait for start", init.process.describe()));
        match &init.seccomp {
            Some(filter) => steps.push(("Filter system calls", filter.describe())),
            None => steps.push(("Filter no system calls", Vec::new())),
        }
        steps
    }
}

fn makes_or_joins(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let linux = spec.linux().as_ref();
    linux.and_then(|linux| linux.namespaces().as_ref()).is_some_and(|all| all.iter().any(|one| one.typ() == kind))
}

/// The container sees the directory of the socket for word of readiness; what it finds there is not its to change.
fn bind_notify_directory(spec: &mut Spec, directory: &Path) {
    let options = ["bind", "nosuid", "nodev", "noexec", "ro"];
    let mut mount = Mount::default();
    mount
        .set_destination(readiness::DIRECTORY_INSIDE.into())
        .set_source(Some(directory.to_owned()))
        .set_typ(Some("bind".to_owned()))
        .set_options(Some(options.map(str::to_owned).to_vec()));
    spec.set_mounts(Some(spec.mounts().clone().into_iter().flatten().chain([mount]).collect()));
}

/// What the root needs to know of control groups.
struct CgroupMounts {
    binds: Vec<(String, PathBuf)>,
    cgroup2: Option<PathBuf>,
    links: Vec<(String, String)>,
}

impl CgroupMounts {
    fn new(plan: &CgroupPlan, hierarchies: &Hierarchies, namespaces: &NamespacesPlan) -> Self {
        // In a cgroup namespace of its own, /proc/self/cgroup says `/`: that is what is mounted. Without one it has the
        // path from the hierarchy's root, which on version 2 is mounted whole, as other runtimes do.
        let own_root = namespaces.has(Namespace::Cgroup);
        let mut binds = Vec::new();
        let mut links = Vec::new();
        let mut cgroup2 = None;
        for cgroup in plan.cgroups().0.into_iter().chain(left_out(plan, hierarchies)) {
            let hierarchy = &cgroup.hierarchy;
            let name = hierarchy.mount_point.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let whole = hierarchy.version == Version::V2 && !own_root;
            let directory = if whole { hierarchy.mount_point.clone() } else { cgroup.dir() };
            if hierarchy.version == Version::V2 {
                cgroup2 = Some(directory.clone());
            } else {
                let others =
                    hierarchy.controllers.iter().filter(|controller| **controller != name && !controller.contains('='));
                links.extend(others.map(|controller| (controller.clone(), name.clone())));
            }
            binds.push((if hierarchies.layout == Layout::Unified { String::new() } else { name }, directory));
        }
        Self { binds, cgroup2, links }
    }
}

/// procrt's own control groups in the hierarchies in which the container has none: that is where its processes are.
fn left_out<'a>(plan: &'a CgroupPlan, hierarchies: &'a Hierarchies) -> impl Iterator<Item = ContainerCgroup> + 'a {
    let has_none = |hierarchy: &&Hierarchy| {
        !plan.groups.iter().any(|group| group.cgroup.hierarchy.mount_point == hierarchy.mount_point)
    };
    let own = |hierarchy: &Hierarchy| {
        Some(ContainerCgroup { hierarchy: hierarchy.clone(), path: hierarchy.own_path.clone()? })
    };
    let possible = if hierarchies.delegation.is_some() { hierarchies.list.as_slice() } else { &[] };
    possible.iter().filter(has_none).filter_map(own)
}

/// Ids that a new user namespace does not map cannot be anybody's inside.
fn check_ids(process: &ProcessPlan, namespaces: &NamespacesPlan, faults: &mut Faults) {
    if !namespaces.makes(Namespace::User) || process.is_missing() {
        return;
    }
    let mapped = id_mapping::maps;
    let (uids, gids) = (&namespaces.uid_mappings, &namespaces.gid_mappings);
    if !uids.is_empty() && !mapped(uids, process.uid) {
        faults.add("process.user.uid", format_args!("{} is not mapped in linux.uidMappings", process.uid));
    }
    if gids.is_empty() {
        return;
    }
    if !mapped(gids, process.gid) {
        faults.add("process.user.gid", format_args!("{} is not mapped in linux.gidMappings", process.gid));
    }
    for (index, gid) in process.groups.iter().enumerate().filter(|(_, gid)| !mapped(gids, **gid)) {
        faults.add(
            format!("process.user.additionalGids[{index}]"),
            format_args!("{gid} is not mapped in linux.gidMappings"),
        );
    }
}

/// What takes privileges that a plain user does not have.
fn check_plain(process: &ProcessPlan, namespaces: &NamespacesPlan, caller: &Caller, faults: &mut Faults) {
    if caller.is_plain() && !namespaces.has(Namespace::User) {
        let what = format_args!(
            "user {} is not root, and so needs a namespace of type \"user\", with linux.uidMappings and linux.gidMappings",
            caller.uid
        );
        faults.add("linux.namespaces", what);
    }
    let makes = namespaces.makes(Namespace::User) && id_writer::denies_groups(&namespaces.gid_mappings, caller);
    if makes && !process.groups.is_empty() {
        let what = format_args!(
            "{:?} cannot be set: for the sake of its own groups, a user who maps no other than its own group id has none \
             (user_namespaces(7), setgroups)",
            process.groups
        );
        faults.add("process.user.additionalGids", what);
    }
}

/// Capabilities that procrt itself does not have cannot be given; the specification wants that said, not refused.
pub(super) fn warn_of_missing_capabilities(process: &ProcessPlan, user_namespace: bool) {
    if user_namespace {
        return;
    }
    let Ok(own) = crate::sys::process::capabilities() else {
        return;
    };
    let missing = process.capabilities.permitted & !own.permitted;
    if missing == 0 {
        return;
    }
    for capability in caps::all().into_iter().filter(|capability| missing & 1 << capability.index() != 0) {
        log::warn!("process.capabilities: {capability} cannot be given: procrt does not have it");
    }
}

/// The plan of the bundle in `dir`, for `explain`; `cgroup_manager` and `missing_lsm` as in [`CreateOptions`]. What only root
/// could make is explained as if root made it.
///
/// # Errors
/// As [`plan`].
pub fn explain(dir: &Path, cgroup_manager: CgroupManager, missing_lsm: Missing) -> Result<Plan> {
    let systemd = (cgroup_manager == CgroupManager::Systemd).then(systemd::find).transpose()?;
    let manager = systemd.map(|(manager, _)| manager);
    let id = "explained".to_owned();
    let options = CreateOptions { id, bundle: dir.to_owned(), cgroup_manager, missing_lsm, ..CreateOptions::default() };
    let caller = |spec: &Spec| {
        if makes_or_joins(spec, LinuxNamespaceType::User) { Caller::find() } else { Ok(Caller::ROOT) }
    };
    plan_for(&options, manager.as_ref(), caller).map(|(_, plan)| plan)
}
