//! ID-mapped bind mounts (config.md, "Mounts": `uidMappings`, `gidMappings`, `idmap` and `ridmap`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use oci_spec::runtime::Mount;
use serde::Serialize;

use super::apply::Sources;
use super::options::Options;
use super::{MountPlan, RootfsPlan, Surroundings, What};
use crate::error::{Context, Error, Faults, Kind, Result};
use crate::host::id_mapping::{self, IdMapping};
use crate::host::{mounts, procfs};
use crate::sys::mount::{MountAttr, attr, mount_setattr};

/// How a mount's ids are mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdMap {
    /// All that is mounted below it too.
    pub recursive: bool,
    /// The map: an id of the file system inside, the one that it is seen as outside.
    pub ids: Ids,
}

/// Where a map of ids comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ids {
    /// It is that of the container's user namespace.
    Container,
    /// It is the mount's own.
    Own {
        /// For user ids.
        uids: Vec<IdMapping>,
        /// For group ids.
        gids: Vec<IdMapping>,
    },
}

/// Decides about the ids of the mount at `index`. Mappings count without `idmap` too: there are callers that leave the
/// option out, which the specification only recommends.
pub(super) fn plan(
    index: usize,
    mount: &Mount,
    options: &Options,
    around: &Surroundings,
    faults: &mut Faults,
) -> Option<IdMap> {
    let at = |field: &str| format!("mounts[{index}].{field}");
    let list = |field, list: &Option<Vec<_>>, faults: &mut Faults| {
        id_mapping::plan(&at(field), list.as_deref().unwrap_or_default(), faults)
    };
    let uids = list("uidMappings", mount.uid_mappings(), faults);
    let gids = list("gidMappings", mount.gid_mappings(), faults);
    let option = options.id_map.map(|recursive| if recursive { "ridmap" } else { "idmap" });
    let recursive = options.id_map.unwrap_or(false);
    let ids = match (uids.is_empty(), gids.is_empty()) {
        (false, false) if (uids.as_slice(), gids.as_slice()) == around.id_mappings => Ids::Container,
        (false, false) => Ids::Own { uids, gids },
        (true, false) => {
            faults.add(at("uidMappings"), "is missing: gidMappings need them");
            return None;
        }
        (false, true) => {
            faults.add(at("gidMappings"), "is missing: uidMappings need them");
            return None;
        }
        (true, true) if around.user_namespace => {
            option?;
            Ids::Container
        }
        (true, true) => {
            let option = option?;
            let what =
                format_args!("{option:?} needs uidMappings and gidMappings, or a user namespace to take them from");
            faults.add(at("options"), what);
            return None;
        }
    };
    Some(IdMap { recursive, ids })
}

impl RootfsPlan {
    /// For who may map no ids of the host's file systems.
    ///
    /// # Errors
    /// Names the first mount whose ids are to be mapped.
    pub fn check_not_mapped(&self) -> Result<()> {
        match self.mounts.iter().find(|mount| mount.id_map.is_some()) {
            Some(mount) => Err(refused(mount, false, Errno::EPERM).of_kind(Kind::Unsupported)),
            None => Ok(()),
        }
    }
}

impl Sources {
    /// Maps the ids of the sources that are open, before anybody sees them. `container` is the container's user namespace,
    /// if it has one.
    ///
    /// # Errors
    /// Names the mount, its source and the type of its file system.
    pub fn map_ids(&self, plan: &RootfsPlan, container: Option<BorrowedFd>) -> Result<()> {
        // A namespace for each map, whoever needs it.
        let mut made: Vec<(&Ids, OwnedFd)> = Vec::new();
        for (mount, tree) in plan.mounts.iter().zip(&self.binds) {
            let (Some(id_map), Some(tree)) = (&mount.id_map, tree) else {
                continue;
            };
            let ids = &id_map.ids;
            let namespace = match (ids, made.iter().position(|(of, _)| *of == ids)) {
                (Ids::Container, _) => {
                    container.ok_or_else(|| Error::system("there is no user namespace to map a mount's ids by"))?
                }
                (Ids::Own { .. }, Some(index)) => made[index].1.as_fd(),
                (Ids::Own { uids, gids }, None) => {
                    let proc = procfs::handle()?;
                    let namespace = id_mapping::namespace(uids, gids, proc.as_fd())
                        .context(|| format!("mounts[{}].uidMappings, gidMappings", mount.index))?;
                    made.push((ids, namespace));
                    made[made.len() - 1].1.as_fd()
                }
            };
            map(mount, tree.as_fd(), namespace)?;
        }
        Ok(())
    }
}

fn map(mount: &MountPlan, tree: BorrowedFd, namespace: BorrowedFd) -> Result<()> {
    let recursive = mount.id_map.as_ref().is_some_and(|id_map| id_map.recursive);
    let change = MountAttr { set: attr::IDMAP, userns_fd: namespace.as_raw_fd() as u64, ..MountAttr::default() };
    mount_setattr(tree, recursive, &change).map_err(|errno| refused(mount, recursive, errno))
}

/// Says which file system it is that cannot be mapped: the kernel does not.
fn refused(mount: &MountPlan, recursive: bool, errno: Errno) -> Error {
    let What::Bind { source, recursive: below } = &mount.what else {
        return errno.into();
    };
    let types = mounts::file_systems_at(source, recursive && *below);
    let listed = types.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let whose = match types.len() {
        0 => "its file system".to_owned(),
        1 => format!("its file system, {listed},"),
        _ => format!("one of its file systems ({listed})"),
    };
    let why = match errno {
        Errno::EINVAL => format!("{whose} does not support that"),
        Errno::EPERM => format!("{whose} is mapped already, or not procrt's to map"),
        _ => whose,
    };
    let error = Error::from(errno).context(format!(
        "mounts[{}]: map the ids of {:?} for {:?}: {why}",
        mount.index,
        source.display().to_string(),
        mount.destination.display().to_string()
    ));
    if errno == Errno::EINVAL { error.of_kind(Kind::Unsupported) } else { error }
}
