//! Which limits control groups can set here, for whoever asks.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::Ability;
use crate::host::cgroups::{ContainerCgroup, Hierarchies, Hierarchy, Version};
use crate::sandbox::caller::Caller;

/// For each limit of control groups: that it can be had, or why not. Asks the kernel nothing that making the groups would
/// not tell as well: it looks at what is mounted, and whether the caller may make groups there.
pub(in crate::sandbox) fn limits(caller: &Caller) -> Vec<(Ability, std::result::Result<(), String>)> {
    let kinds = [
        (Ability::Memory, "memory", "memory"),
        (Ability::Swap, "memory", "memory"),
        (Ability::Cpus, "cpu", "cpu"),
        (Ability::Pids, "pids", "pids"),
        (Ability::Io, "io", "blkio"),
    ];
    let found = Hierarchies::find();
    let found = if caller.is_root() { found } else { found.and_then(Hierarchies::with_delegation) };
    let hierarchies = match found {
        Ok(hierarchies) => hierarchies,
        // Such as inside a sandbox: then there are none.
        Err(error) => {
            return kinds.map(|(ability, ..)| (ability, Err(format!("takes a control group: {error}")))).into();
        }
    };
    let of = |(ability, v2, v1): (Ability, &'static str, &'static str)| {
        let found = hierarchies.list.iter().position(|hierarchy| hierarchy.has(v1) || hierarchy.has(v2));
        let answer = match found.map(|at| (&hierarchies.list[at], hierarchies.delegation.as_ref().map(|all| &all[at])))
        {
            None => Err(format!("no control group hierarchy of this host has the controller {v2:?}")),
            Some((_, Some(None))) => Err("takes a control group, and none is delegated to this user".to_owned()),
            Some((hierarchy, Some(Some(base)))) => handed_down(hierarchy, base, v2),
            Some((hierarchy, None)) => usable(hierarchy),
        };
        let hierarchy = found.map(|at| &hierarchies.list[at]);
        (ability, answer.and_then(|()| hierarchy.map_or(Ok(()), |hierarchy| special(ability, hierarchy))))
    };
    kinds.into_iter().map(of).collect()
}

/// Whether the group that was delegated to the user has the controller.
fn handed_down(hierarchy: &Hierarchy, base: &Path, controller: &str) -> std::result::Result<(), String> {
    if hierarchy.version == Version::V1 {
        return Ok(());
    }
    let dir = ContainerCgroup { hierarchy: hierarchy.clone(), path: base.to_owned() }.dir();
    let file = dir.join("cgroup.controllers");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    if text.split_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    Err(format!("the controller {controller:?} is not delegated to this user"))
}

fn usable(hierarchy: &Hierarchy) -> std::result::Result<(), String> {
    let dir = &hierarchy.mount_point;
    access(dir, AccessFlags::W_OK)
        .map_err(|errno| format!("no control group can be made in {}: {}", dir.display(), errno.desc()))
}

/// What a controller of version 1 does not do.
fn special(ability: Ability, hierarchy: &Hierarchy) -> std::result::Result<(), String> {
    if hierarchy.version == Version::V2 {
        return Ok(());
    }
    match ability {
        Ability::Io => {
            Err("control groups of version 1 do not hold back what is written through the page cache".into())
        }
        Ability::Swap if !has(hierarchy, "memory.memsw.limit_in_bytes") && swap_in_use() => {
            Err("this kernel was started without swapaccount=1".into())
        }
        _ => Ok(()),
    }
}

fn has(hierarchy: &Hierarchy, file: &str) -> bool {
    hierarchy.mount_point.join(file).exists()
}

/// Whether the host has any swap: without, nothing has to be limited.
fn swap_in_use() -> bool {
    std::fs::read_to_string(Path::new("/proc/swaps")).map_or(true, |text| text.lines().count() > 1)
}
