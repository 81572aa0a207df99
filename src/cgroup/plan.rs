//! Spec → [`CgroupPlan`]: where the container's cgroups are, and what goes into which.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount, Spec};

use super::devices::DevicePolicy;
use super::resources::{Extent, Resources};
use super::{CgroupPlan, FileWrite, GroupPlan, device_program, systemd};
use crate::error::Faults;
use crate::host::caller::makes_no_devices;
use crate::host::cgroups::{ContainerCgroup, Hierarchies, Hierarchy, Layout, Version};

/// The cgroup below which a container's is, if the configuration names none.
const DEFAULT_PARENT: &str = "/procrt";

/// Whether [`plan`] needs [`Hierarchies::with_own_paths`] for this configuration: a relative `linux.cgroupsPath` is
/// below procrt's own cgroup.
pub fn needs_own_paths(spec: &Spec) -> bool {
    configured_path(spec).is_some_and(Path::is_relative)
}

/// Whether this configuration names no control group: then [`Hierarchies::delegation`] counts.
pub fn names_none(spec: &Spec) -> bool {
    configured_path(spec).is_none()
}

/// Decides a container's control groups.
///
/// `linux.cgroupsPath` (config-linux.md, "Control groups") is from the hierarchies' roots if absolute; if relative, it is
/// below procrt's own cgroup, or on a unified host below that one's parent, which has no processes of its own; without
/// it, the cgroup is `/procrt/ID`, or `procrt-ID` where the user may make one, if the hierarchies say that. A value of zero or an empty list among the resources means that nothing is asked for.
pub fn plan(spec: &Spec, id: &str, hierarchies: &Hierarchies, faults: &mut Faults) -> CgroupPlan {
    let place = match &hierarchies.delegation {
        Some(bases) if configured_path(spec).is_none() => Place::Delegated { name: format!("procrt-{id}"), bases },
        _ => Place::At(location(spec, id, faults)),
    };
    plan_at(&place, spec, hierarchies, faults)
}

/// Decides the control groups of a container that is a scope of `manager`'s, with `linux.cgroupsPath` in the form
/// `slice:prefix:name`: the same, but for where they are and who makes them.
pub fn plan_scope(
    spec: &Spec,
    id: &str,
    hierarchies: &Hierarchies,
    manager: &systemd::Manager,
    faults: &mut Faults,
) -> CgroupPlan {
    let location = systemd::location(configured_path(spec), id, manager, faults);
    let mut plan = plan_at(&Place::At(location.path.clone()), spec, hierarchies, faults);
    systemd::add_scope(&mut plan, (spec, id), hierarchies, (manager, location), faults);
    plan
}

/// Decides for a container that is to have no control group, whatever `linux.cgroupsPath` says: it stays in procrt's own,
/// and a limit is a fault. So would be the device rules that every engine's configuration has: those hold nothing back.
pub fn plan_none(spec: &Spec, faults: &mut Faults) -> CgroupPlan {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
    let plan = CgroupPlan { groups: Vec::new(), devices: DevicePolicy::new(rules, faults), scope: None };
    let mut namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).into_iter().flatten();
    if namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::User) || makes_no_devices() {
        left_to_user_namespace();
    } else if !plan.devices.allows_all() {
        log::warn!("linux.resources.devices: hold nothing back, as the container has no control group");
    }
    if let Some(resources) = resources {
        Resources { groups: &mut [], faults, live: false, extent: Extent::Nothing }.all(resources);
    }
    plan
}

/// Where a container's cgroups are to be.
enum Place<'a> {
    /// In all hierarchies, at this path from the root, or if relative, below procrt's own.
    At(PathBuf),
    /// Below those of `bases` that are there.
    Delegated { name: String, bases: &'a [Option<PathBuf>] },
}

fn plan_at(place: &Place, spec: &Spec, hierarchies: &Hierarchies, faults: &mut Faults) -> CgroupPlan {
    let mut groups = Vec::with_capacity(hierarchies.list.len());
    for (index, hierarchy) in hierarchies.list.iter().enumerate() {
        let path = match place {
            Place::At(location) if location.is_absolute() => location.to_owned(),
            Place::At(location) => {
                let Some(base) = own_base(hierarchy, hierarchies.layout) else {
                    faults.unsupported(
                        "linux.cgroupsPath",
                        format_args!("{location:?} is relative, and procrt's own control group is not known"),
                    );
                    break;
                };
                base.join(location)
            }
            Place::Delegated { name, bases } => match bases.get(index) {
                Some(Some(base)) => base.join(name),
                _ => continue,
            },
        };
        let cgroup = ContainerCgroup { hierarchy: hierarchy.clone(), path };
        let group = GroupPlan::new(cgroup);
        // Version 2 goes first: when it is empty of processes, so are the others.
        let at = if hierarchy.version == Version::V2 { 0 } else { groups.len() };
        groups.insert(at, group);
    }
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
    let mut plan = CgroupPlan { groups, devices: DevicePolicy::new(rules, faults), scope: None };
    let delegated = matches!(place, Place::Delegated { .. });
    if plan.groups.is_empty() && faults.is_empty() && !delegated {
        faults.unsupported("linux.cgroupsPath", "no control group hierarchy is mounted at or below /sys/fs/cgroup");
        return plan;
    }
    add_devices(&mut plan, delegated, faults);
    if hierarchies.layout == Layout::Unified
        && let Some(group) = plan.groups.first_mut()
    {
        group.owner = owner(spec);
    }
    if let Some(resources) = resources {
        let extent = if delegated { Extent::Delegated } else { Extent::Machine };
        Resources { groups: &mut plan.groups, faults, live: false, extent }.all(resources);
    }
    plan
}

fn configured_path(spec: &Spec) -> Option<&Path> {
    spec.linux().as_ref()?.cgroups_path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// The cgroup's path: absolute, or relative to procrt's own; checked, and without `.` and doubled slashes.
fn location(spec: &Spec, id: &str, faults: &mut Faults) -> PathBuf {
    let Some(path) = configured_path(spec) else { return Path::new(DEFAULT_PARENT).join(id) };
    let mut refuse = |why: &str| faults.add("linux.cgroupsPath", format_args!("{path:?} {why}"));
    let text = path.to_string_lossy();
    if path.is_relative() && text.matches(':').count() == 2 {
        refuse("is systemd's form, slice:prefix:name, which needs --systemd-cgroup");
    }
    if text.contains(['\0', '\n']) {
        refuse("has a zero byte or a line break in it");
    }
    if path.components().any(|part| part == Component::ParentDir) {
        refuse("has \"..\" in it");
    }
    let location: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    if location.file_name().is_none() {
        refuse("is the root control group, which is no container's");
    }
    location
}

/// The uid on the host of the container's user, if that is to own the container's cgroup: with a user and a cgroup
/// namespace of its own, and the cgroup mounted to be written to (config-linux.md, "Cgroup ownership").
fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let makes = |kind| {
        let new = |namespace: &LinuxNamespace| {
            namespace.typ() == kind && namespace.path().as_ref().is_none_or(|path| path.as_os_str().is_empty())
        };
        linux.namespaces().iter().flatten().any(new)
    };
    let writable = |mount: &Mount| {
        matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"))
            && !mount.options().iter().flatten().any(|option| option == "ro")
    };
    if !makes(LinuxNamespaceType::User)
        || !makes(LinuxNamespaceType::Cgroup)
        || !spec.mounts().iter().flatten().any(writable)
    {
        return None;
    }
    let uid = spec.process().as_ref().map_or(0, |process| process.user().uid());
    let mappings = linux.uid_mappings().iter().flatten();
    let mut hosts = mappings.filter_map(|map| {
        let offset = uid.checked_sub(map.container_id()).filter(|offset| *offset < map.size())?;
        map.host_id().checked_add(offset)
    });
    hosts.next()
}

/// What a relative path is below, in one hierarchy.
fn own_base(hierarchy: &Hierarchy, layout: Layout) -> Option<&Path> {
    let own = hierarchy.own_path.as_deref()?;
    Some(if layout == Layout::Unified { own.parent().unwrap_or(own) } else { own })
}

/// Says that no control group holds devices back: those that are bound into the root are all there are.
pub(super) fn left_to_user_namespace() {
    log::debug!("linux.resources.devices: left to the user namespace, whose root makes no devices: only root may");
}

/// The device policy: version 1's files where that hierarchy is mounted, else a program on version 2.
fn add_devices(plan: &mut CgroupPlan, delegated: bool, faults: &mut Faults) {
    const PATH: &str = "linux.resources.devices";
    let v1 = plan.groups.iter().position(|group| group.cgroup.hierarchy.has("devices"));
    let v2 = plan.groups.iter().position(|group| group.cgroup.hierarchy.version == Version::V2);
    if let Some(group) = v1.map(|at| &mut plan.groups[at]) {
        let exceptions = match plan.devices.exceptions() {
            Ok(exceptions) => exceptions,
            Err((wide, hole)) => {
                faults.unsupported(
                    PATH,
                    format_args!("control groups of version 1 cannot take \"{hole}\" out of \"{wide}\""),
                );
                return;
            }
        };
        let (reset, except) =
            if plan.devices.allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        let write = |file: &'static str, value| FileWrite::of_devices(file, value);
        group.writes.push(write(reset, "a".to_owned()));
        group.writes.extend(exceptions.iter().map(|rule| write(except, rule.to_string())));
    } else if plan.devices.allows_all() {
        // Version 2 allows whatever no program refuses.
    } else if let Some(at) = v2 {
        plan.groups[at].device_program = Some(device_program::build(&plan.devices));
    } else if delegated && makes_no_devices() {
        left_to_user_namespace();
    } else {
        faults.unsupported(PATH, "no control group hierarchy of this machine can hold devices back");
    }
}
