//! Stopping a container's processes where they are, letting them go on, and naming them.

use super::Status;
use super::store::Store;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::host::pid_namespace;

/// Freezes a running container: none of its processes goes on before [`resume`].
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::State`] unless it is running; that it could not be frozen.
pub fn pause(store: &Store, id: &str) -> Result<()> {
    change(store, id, Status::Running, "container not running", Cgroup::freeze).context(|| format!("pause {id:?}"))
}

/// Lets a paused container go on.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::State`] unless it is paused; that it could not be thawed.
pub fn resume(store: &Store, id: &str) -> Result<()> {
    change(store, id, Status::Paused, "container not paused", Cgroup::thaw).context(|| format!("resume {id:?}"))
}

fn change(store: &Store, id: &str, wanted: Status, otherwise: &str, act: fn(&Cgroup) -> Result<()>) -> Result<()> {
    let entry = store.lock(id)?;
    match entry.read()? {
        Some(record) if record.status(&entry)? == wanted => act(&Cgroup::open(&record.cgroups)),
        _ => Err(Error::new(Kind::State, otherwise)),
    }
}

/// The processes of a container, as the host numbers them, in ascending order.
///
/// # Errors
/// [`Kind::NotFound`]; that its control group cannot be read; that there is nothing to know its processes by.
pub fn processes(store: &Store, id: &str) -> Result<Vec<i32>> {
    let entry = store.find(id)?;
    let Some(record) = entry.read()? else {
        return Ok(Vec::new());
    };
    if record.cgroups.0.is_empty() {
        return match record.process.filter(|process| !process.is_ending()) {
            Some(first) => record.check_known().and_then(|()| pid_namespace::pids_with(first.pid)),
            None => Ok(Vec::new()),
        }
        .context(|| format!("ps {id:?}"));
    }
    let mut pids = Cgroup::open(&record.cgroups).pids()?;
    pids.sort_unstable();
    Ok(pids)
}
