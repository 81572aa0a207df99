//! Changing what a container may use while it is there.

use oci_spec::runtime::LinuxResources;

use super::Status;
use super::store::Store;
use crate::cgroup::{self, Cgroup};
use crate::error::{Context, Error, Faults, Kind, Result};
use crate::resctrl;

/// What is changed of a container's shares in resctrl, as `linux.intelRdt` has them.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    /// Its part of the caches (`l3CacheSchema`).
    pub l3_cache_schema: Option<String>,
    /// Its part of the memory's bandwidth (`memBwSchema`).
    pub mem_bw_schema: Option<String>,
}

/// Changes the limits of a container that has not ended to those that `named` and `shares` have; the others stay. Either all
/// change or none, and the record remembers them.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::State`] if the container is stopped or being created; everything that is wrong with the
/// values, together; or what the kernel refuses.
pub fn update(store: &Store, id: &str, named: &LinuxResources, shares: &Shares) -> Result<()> {
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
    let current = record.resources.clone().unwrap_or_default();
    let plan = cgroup::plan_update(&record.cgroups, &current, named, &mut faults)?;
    let bandwidth = shares.mem_bw_schema.as_deref().map(|schema| ("--mem-bw-schema", schema));
    let lines = resctrl::limits(shares.l3_cache_schema.as_deref(), bandwidth, &mut faults);
    if !lines.is_empty() && record.resctrl.is_none() {
        return Err(Error::unsupported("linux.intelRdt is not configured for the container")).context(what);
    }
    faults.into_result().context(what)?;
    let groups = record.resctrl.as_ref().filter(|_| !lines.is_empty());
    let former = groups.map(|groups| groups.change(&lines)).transpose().context(what)?;
    let cgroup = Cgroup::open(&record.cgroups);
    let put_shares_back = || former.iter().for_each(resctrl::Former::put_back);
    let undo = cgroup.update(&plan).context(what).inspect_err(|_| put_shares_back())?;
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
        if let Some(Err(error)) = record.unit.as_ref().map(|unit| unit.put_back(&plan, &undo)) {
            log::warn!("put back: {error}");
        }
        undo.put_back();
        put_shares_back();
    })
}
