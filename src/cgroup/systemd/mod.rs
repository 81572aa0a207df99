//! Control groups that systemd makes: each container is a scope, a transient unit with processes that others have made.
//!
//! systemd is asked once, for the scope with the first process in it and all its properties, and once more when the container
//! is removed. Everything between, from the exact limits to freezing and killing, goes by the files of the
//! scope's control group, which is delegated: as without systemd. Version 2 only.

// Errors show a path in quotes and with its control characters escaped.
#![allow(clippy::unnecessary_debug_formatting)]

mod bus;
mod name;
mod properties;
mod text;
mod wire;

#[cfg(test)]
mod wire_tests;

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

pub use bus::{Connection, Manager, Socket, find};
pub use properties::{PREFIX as PROPERTY_ANNOTATIONS, Property};
pub use wire::Value;

use super::{CgroupPlan, DevicePolicy, Undo, UpdatePlan};
use crate::error::{Context, Error, Faults, Kind, Result};
use crate::host::cgroups::{Hierarchies, Layout};
use bus::Answer;

/// systemd's names of refusals that mean something.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NOT_THERE: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// The scope that a container is to be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScopePlan {
    /// Its name, and whose it is.
    pub unit: Unit,
    /// Its properties but for the process in it.
    pub properties: Vec<Property>,
}

/// A unit of a service manager's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Where its manager is reached.
    pub socket: Socket,
    /// Its name.
    pub name: String,
}

/// Where a container's control group will be, from the hierarchy's root, with the place that it is made from.
pub(super) struct Location {
    place: name::Place,
    pub path: PathBuf,
}

/// Reads `linux.cgroupsPath` for a container of `manager`'s.
pub(super) fn location(path: Option<&Path>, id: &str, manager: &Manager, faults: &mut Faults) -> Location {
    let place = name::Place::new(path, id, manager.user, faults);
    let path = manager.root.join(place.path());
    Location { place, path }
}

/// Adds the scope to a plan whose limits are all there.
pub(super) fn add_scope(
    plan: &mut CgroupPlan,
    (spec, id): (&Spec, &str),
    hierarchies: &Hierarchies,
    (manager, location): (&Manager, Location),
    faults: &mut Faults,
) {
    if hierarchies.layout != Layout::Unified {
        let what = "it needs a machine with control groups of version 2 alone, and this one has version 1's";
        faults.unsupported("--systemd-cgroup", what);
        return;
    }
    let mut properties = properties::of_every_scope(id, &location.place.slice);
    let mut resources: Vec<Property> =
        plan.groups.iter().flat_map(|group| properties::of_writes(&group.writes)).collect();
    resources
        .extend(properties::of_devices(&plan.devices, || std::fs::read_to_string("/proc/devices").unwrap_or_default()));
    let annotations = spec.annotations().as_ref();
    let asked = annotations.map(|annotations| properties::of_annotations(annotations, faults)).unwrap_or_default();
    properties::merge(&mut properties, resources, asked, faults);
    let unit = Unit { socket: manager.socket.clone(), name: location.place.scope };
    plan.scope = Some(ScopePlan { unit, properties });
}

/// The text of `/proc/devices`.
fn drivers() -> String {
    std::fs::read_to_string("/proc/devices").unwrap_or_default()
}

/// Device rules in the place of others: a list adds to the one that is there, unless it is empty.
fn of_new_devices(policy: &DevicePolicy) -> Vec<Property> {
    let none = Property { name: "DeviceAllow".into(), value: Value::array("(ss)", Vec::new()) };
    [none].into_iter().chain(properties::of_devices(policy, drivers)).collect()
}

impl ScopePlan {
    /// The plan in words, a line a step.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = vec![format!("have systemd start {} with the first process in it", self.unit.name)];
        lines.extend(self.properties.iter().map(|property| {
            let value = serde_json::to_string(&property.value).unwrap_or_default();
            format!("with {}={value}", property.name)
        }));
        lines
    }

    /// Has the scope started, with process `pid` in it. On failure nothing of it is left.
    ///
    /// # Errors
    /// `Kind::Exists` if there is such a unit already; or what systemd says.
    pub fn start(&self, connection: &mut Connection, pid: i32) -> Result<()> {
        let what = || format!("have systemd start {:?}", self.unit.name);
        let name = Value::text(&self.unit.name);
        let pids = Value::array("u", vec![Value::Uint32(pid as u32)]);
        let pids = Value::Struct(vec![Value::text("PIDs"), pids.variant()]);
        let properties = self.properties.iter().map(Property::to_value).chain([pids]).collect();
        let arguments = [
            name.clone(),
            Value::text("replace"),
            Value::array("(sv)", properties),
            Value::array("(sa(sv))", Vec::new()),
        ];
        let mut answer = connection.call_manager("StartTransientUnit", &arguments)?;
        if matches!(&answer, Answer::Refused(error, _) if error == EXISTS) {
            // What is left of a unit that failed is nothing that anybody uses. Of one that has not, nothing is changed.
            connection.call_manager("ResetFailedUnit", &[name])?;
            answer = connection.call_manager("StartTransientUnit", &arguments)?;
        }
        if matches!(&answer, Answer::Refused(error, _) if error == EXISTS) {
            return Err(Error::new(Kind::Exists, "there is a unit of that name")).context(what);
        }
        let job = answer.done().context(what)?;
        let result = wait(connection, &job);
        match result.context(what) {
            Ok(result) if result == "done" => Ok(()),
            other => {
                let _ = connection.call_manager("StopUnit", &[Value::text(&self.unit.name), Value::text("replace")]);
                let result = other?;
                Err(Error::system(format!("the job's result is {result:?} (journalctl says more)"))).context(what)
            }
        }
    }
}

fn wait(connection: &mut Connection, job: &wire::Message) -> Result<String> {
    let job = job.body("o")?.text()?.to_owned();
    connection.wait_for_job(&job)
}

impl Unit {
    /// Tells systemd of limits that the files have by now. It writes them to the files once more, in its own steps; when this
    /// is done, so is that.
    ///
    /// # Errors
    /// What systemd says; then it knows of none of them.
    pub fn update(&self, plan: &UpdatePlan) -> Result<()> {
        let mut properties: Vec<Property> = plan.writes().flat_map(properties::of_writes).collect();
        properties.extend(plan.devices().into_iter().flat_map(|(_, new)| of_new_devices(new)));
        self.set(&properties)
    }

    /// Tells systemd again of what was there before an update.
    ///
    /// # Errors
    /// What systemd says.
    pub fn put_back(&self, plan: &UpdatePlan, undo: &Undo) -> Result<()> {
        let mut properties = properties::of_values(undo.values());
        properties.extend(plan.devices().into_iter().flat_map(|(old, _)| of_new_devices(old)));
        self.set(&properties)
    }

    /// Has process `pid` moved into the unit's control group, or into the one at `inside` below it (empty: none), where this
    /// user may not move it: the manager of a user's units asks the system's.
    ///
    /// # Errors
    /// What systemd says.
    pub fn attach(&self, inside: &Path, pid: i32) -> Result<()> {
        let what = || format!("have systemd move process {pid} to {:?}", self.name);
        let mut connection = Connection::open(&self.socket)
            .context(|| format!("connect to systemd at {:?}", self.socket.path))
            .context(what)?;
        let pids = Value::array("u", vec![Value::Uint32(pid as u32)]);
        let arguments = [Value::text(&self.name), Value::text(inside.display().to_string()), pids];
        connection.call_manager("AttachProcessesToUnit", &arguments)?.done().context(what).map(drop)
    }

    fn set(&self, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let what = || format!("have systemd change {:?}", self.name);
        let mut connection = Connection::open(&self.socket)
            .context(|| format!("connect to systemd at {:?}", self.socket.path))
            .context(what)?;
        let values = properties.iter().map(Property::to_value).collect();
        let arguments = [Value::text(&self.name), Value::Bool(true), Value::array("(sv)", values)];
        connection.call_manager("SetUnitProperties", &arguments)?.done().context(what)?;
        // It has answered before it writes, and writes before it looks at the next call.
        connection.ping().context(what)
    }

    /// Has the unit stopped, and waits until it is gone. It is no error if it is not there, or its manager is not.
    ///
    /// # Errors
    /// What systemd says.
    pub fn stop(&self) -> Result<()> {
        let what = || format!("have systemd stop {:?}", self.name);
        let mut connection = match Connection::open(&self.socket) {
            Err(Errno::ENOENT | Errno::ECONNREFUSED) => return Ok(()),
            connection => {
                connection.context(|| format!("connect to systemd at {:?}", self.socket.path)).context(what)?
            }
        };
        match connection.call_manager("StopUnit", &[Value::text(&self.name), Value::text("replace")]).context(what)? {
            Answer::Refused(error, _) if error == NOT_THERE => Ok(()),
            answer => {
                let job = answer.done().context(what)?;
                // Whatever the job's result: what is left of the unit is in its control group, which is looked at next.
                wait(&mut connection, &job).context(what).map(drop)
            }
        }
    }
}
