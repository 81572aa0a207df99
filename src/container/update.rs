//! Changing what a container may use while it is there.

use oci_spec::runtime::LinuxResources;

use super::Status;
use super::store::Store;
use crate::cgroup::{self, Cgroup};
use crate::error::{Context, Error, Faults, Kind, Result};

/// Changes the limits of a container that has not ended to those that `named` has; the others stay. `schemata` are lines
/// for its class of service (`linux.intelRdt`). Either all change or none, and the record remembers them.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::State`] if the container is stopped or being created; everything that is wrong with the
/// values, together; or what the kernel refuses.
pub fn update(store: &Store, id: &str, named: &LinuxResources, schemata: &[String]) -> Result<()> {
    let what = || format!("update {id:?}");
    let entry = store.lock(id)?;
    let record = entry.read()?;
    let Some(mut record) = record else {
        return Err(Error::new(Kind::State, "container is being created")).context(what);
    };
    match record.status(&entry)? {
        Status::Created | Status::Running | Status::Paused => {}
        // engines look for this wording
        Status::Stopped | Status::Creating => {
            return Err(Error::new(Kind::State, "container not running")).context(what);
        }
    }
    let mut faults = Faults::default();
    let groups = record.resctrl.as_ref().filter(|_| !schemata.is_empty());
    if groups.is_none() && !schemata.is_empty() {
        faults.unsupported("linux.intelRdt", "is not configured for this container");
    }
    let current = record.resources.clone().unwrap_or_default();
    let plan = cgroup::plan_update(&record.cgroups, &current, named, &mut faults)?;
    faults.into_result().context(what)?;
    let cgroup = Cgroup::open(&record.cgroups);
    let undo = cgroup.update(&plan).context(what)?;
    let before = match groups.map(|groups| groups.update(schemata)).transpose() {
        Ok(before) => before.unwrap_or_default(),
        Err(error) => {
            undo.put_back();
            return Err(error).context(what);
        }
    };
    let told = record.unit.as_ref().map_or(Ok(()), |unit| {
        unit.update(&plan)?;
        // It has written what it was told in its own steps, which are coarser than the files'.
        cgroup.update(&plan).map(drop)
    });
    let done = told.context(what).and_then(|()| {
        record.resources = Some(plan.resources.clone());
        entry.replace(&record)
    });
    done.inspect_err(|_| {
        if let Some(Err(error)) =
            record.resctrl.as_ref().filter(|_| !before.is_empty()).map(|groups| groups.update(&before))
        {
            log::warn!("put back: {error}");
        }
        if let Some(Err(error)) = record.unit.as_ref().map(|unit| unit.put_back(&plan, &undo)) {
            log::warn!("put back: {error}");
        }
        undo.put_back();
    })
}
