//! Which limits control groups can set here, for whoever asks.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::Ability;
use crate::error::Result;
use crate::host::cgroups::{Hierarchies, Hierarchy, Version};
use crate::sandbox::caller::Caller;

/// For each limit of control groups: that it can be had, or why not. Asks the kernel nothing that making the groups would
/// not tell as well: it looks at what is mounted, and whether the caller may make groups there.
///
/// # Errors
/// If the hierarchies cannot be listed.
pub(super) fn limits(caller: &Caller) -> Result<Vec<(Ability, std::result::Result<(), String>)>> {
    let kinds = [
        (Ability::Memory, "memory", "memory"),
        (Ability::Swap, "memory", "memory"),
        (Ability::Cpus, "cpu", "cpu"),
        (Ability::Pids, "pids", "pids"),
        (Ability::Io, "io", "blkio"),
    ];
    let hierarchies = if caller.is_root() { Hierarchies::find()? } else { return Ok(refuse_all(kinds)) };
    let of = |(ability, v2, v1): (Ability, &'static str, &'static str)| {
        let found = hierarchies.with_controller(v2).or_else(|| hierarchies.with_controller(v1));
        let answer = match found {
            None => Err(format!("no control group hierarchy of this host has the controller {v2:?}")),
            Some(hierarchy) => usable(hierarchy).and_then(|()| special(ability, hierarchy)),
        };
        (ability, answer)
    };
    Ok(kinds.into_iter().map(of).collect())
}

fn refuse_all(kinds: [(Ability, &'static str, &'static str); 5]) -> Vec<(Ability, std::result::Result<(), String>)> {
    let why = "takes a control group, and none is delegated to this user";
    kinds.into_iter().map(|(ability, ..)| (ability, Err(why.to_owned()))).collect()
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
