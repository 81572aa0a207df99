//! Changing the resources of a container that is there: all of the changes, or none.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use serde_json::Value;

use super::devices::{Access, DevicePolicy, DeviceRule};
use super::resources::{Extent, Resources};
use super::{FileWrite, GroupPlan, control, device_program, v2};
use crate::error::{Context, Error, Faults, Kind, Result};
use crate::host::cgroups::{ContainerCgroups, Version};

/// What [`Cgroup::update`](super::Cgroup::update) does to a container.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdatePlan {
    /// The container's resources, as they are meant to be from then on.
    pub resources: LinuxResources,
    /// For each of the container's cgroups what changes in it.
    groups: Vec<GroupPlan>,
    /// The device policy before, and the new one, if it is another.
    devices: Option<(DevicePolicy, DevicePolicy)>,
}

impl UpdatePlan {
    /// What is written in each of the container's cgroups.
    pub(super) fn writes(&self) -> impl Iterator<Item = &[FileWrite]> {
        self.groups.iter().map(|group| &group.writes[..])
    }

    /// The device policy before, and the new one, if it is another.
    pub(super) fn devices(&self) -> Option<&(DevicePolicy, DevicePolicy)> {
        self.devices.as_ref()
    }
}

/// Decides what changes when `named` is asked for of a container that has `current`. What is not named stays, and with
/// it values that somebody else has changed since. As everywhere, 0 and nothing are "not named", but for `cpu.idle`,
/// `cpu.burst` and `memory.swappiness`; a list of device rules replaces all that were there.
///
/// # Errors
/// None that a configuration leads to: its faults go to `faults`.
pub fn plan_update(
    cgroups: &ContainerCgroups,
    current: &LinuxResources,
    named: &LinuxResources,
    faults: &mut Faults,
) -> Result<UpdatePlan> {
    // What create takes for a limit is nothing here, as every other 0 is.
    let mut named = named.clone();
    if named.pids().as_ref().is_some_and(|pids| pids.limit() == 0) {
        named.set_pids(None);
    }
    let named = &named;
    let resources = merged(current, named)?;
    let mut groups = groups_of(cgroups, &resources, faults);
    // What is wrong with these by themselves is not what is asked for.
    let before = groups_of(cgroups, current, &mut Faults::default());
    let asked = groups_of(cgroups, named, &mut Faults::default());
    for (group, (before, asked)) in groups.iter_mut().zip(before.iter().zip(&asked)) {
        let idle = |write: &FileWrite| write.file == "cpu.idle";
        let wakes = asked.writes.iter().any(|write| idle(write) && write.value == "0");
        group.writes.retain(|write| {
            let changes = !before.writes.contains(write) || asked.writes.iter().any(|named| named.file == write.file);
            // What was an idle group has the weight of a new one.
            changes || wakes && matches!(write.file.as_ref(), "cpu.weight" | "cpu.shares")
        });
        let limits = |write: &FileWrite| matches!(write.file.as_ref(), "memory.max" | "memory.limit_in_bytes");
        if !group.writes.iter().any(limits) {
            group.usage_check = None;
        }
    }
    let policy = |resources: &LinuxResources, faults: &mut Faults| {
        DevicePolicy::new(resources.devices().as_deref().unwrap_or_default(), faults)
    };
    let devices = named.devices().as_ref().filter(|rules| !rules.is_empty()).and_then(|_| {
        let (old, new) = (policy(current, &mut Faults::default()), policy(&resources, faults));
        (old != new).then_some((old, new))
    });
    if let Some((_, new)) = &devices {
        let v1 = cgroups.0.iter().any(|cgroup| cgroup.hierarchy.has("devices"));
        if let Some((wide, hole)) = new.exceptions().err().filter(|_| v1) {
            faults.unsupported(
                "linux.resources.devices",
                format_args!("control groups of version 1 cannot take \"{hole}\" out of \"{wide}\""),
            );
        }
    }
    Ok(UpdatePlan { resources, groups, devices })
}

fn groups_of(cgroups: &ContainerCgroups, resources: &LinuxResources, faults: &mut Faults) -> Vec<GroupPlan> {
    let mut groups: Vec<GroupPlan> = cgroups.0.iter().cloned().map(GroupPlan::new).collect();
    let extent = if cgroups.0.is_empty() { Extent::Nothing } else { Extent::Machine };
    Resources { groups: &mut groups, faults, live: true, extent }.all(resources);
    groups
}

/// `current` with what `named` names in it.
fn merged(current: &LinuxResources, named: &LinuxResources) -> Result<LinuxResources> {
    let failed = |error: serde_json::Error| Error::system(format!("join resources: {error}"));
    let mut all = serde_json::to_value(current).map_err(failed)?;
    merge(&mut all, serde_json::to_value(named).map_err(failed)?);
    // Read as text, as the record is: reading a tree would be another parser in the program.
    serde_json::from_str(&all.to_string()).map_err(failed)
}

fn merge(current: &mut Value, named: Value) {
    match (current, named) {
        (Value::Object(current), Value::Object(named)) => {
            for (key, value) in named {
                if is_not_set(&key, &value) {
                    continue;
                }
                match current.get_mut(&key) {
                    Some(there) if key != "devices" => merge(there, value),
                    _ => drop(current.insert(key, value)),
                }
            }
        }
        (Value::Array(current), Value::Array(named)) => {
            for value in named {
                match current.iter_mut().find(|there| is_same(there, &value)) {
                    Some(there) => *there = value,
                    None => current.push(value),
                }
            }
        }
        (current, named) => *current = named,
    }
}

fn is_not_set(key: &str, value: &Value) -> bool {
    const ZERO_COUNTS: [&str; 5] = ["idle", "burst", "swappiness", "hcaHandles", "hcaObjects"];
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_i64() == Some(0) && !ZERO_COUNTS.contains(&key),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) => false,
    }
}

/// Whether two entries of a list are of the same disk, page size or interface.
fn is_same(one: &Value, other: &Value) -> bool {
    ["major", "minor", "pageSize", "name"].iter().all(|key| one.get(key) == other.get(key))
}

/// How what an update has changed is put back.
#[derive(Debug, Default)]
pub struct Undo {
    /// Directory, file and value, in the order in which they were written.
    writes: Vec<(PathBuf, String, String)>,
    devices: Option<(ContainerCgroups, DevicePolicy, DevicePolicy)>,
}

impl Undo {
    /// The files that were written, with what they said before.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.writes.iter().map(|(_, file, value)| (file.as_str(), value.as_str()))
    }

    /// Puts everything back, the last first; what cannot be is logged.
    pub fn put_back(mut self) {
        let put_back = self.devices.take().map_or(Ok(()), |(cgroups, old, new)| set_devices(&cgroups, &new, &old));
        if let Err(error) = put_back {
            log::warn!("put back: {error}");
        }
        self.writes.reverse();
        let mut left = self.writes;
        loop {
            // Of limits that depend on each other, some can be put back only after others.
            let count = left.len();
            let mut failed = Vec::new();
            for write in left {
                let (dir, file, value) = &write;
                if let Err(error) = control::write(dir, file, value) {
                    failed.push((write, error));
                }
            }
            if failed.is_empty() {
                return;
            }
            if failed.len() == count {
                for (_, error) in failed {
                    log::warn!("put back: {error}");
                }
                return;
            }
            left = failed.into_iter().map(|(write, _)| write).collect();
        }
    }
}

/// Carries out an update; answers how to put back what was there.
///
/// # Errors
/// What could not be written; then everything is as it was.
pub(super) fn apply(cgroups: &ContainerCgroups, plan: &UpdatePlan) -> Result<Undo> {
    for group in &plan.groups {
        control::refuse_less_than_used(&group.cgroup.dir(), group)?;
    }
    let mut undo = Undo::default();
    let done = plan.groups.iter().try_for_each(|group| write_group(group, &mut undo)).and_then(|()| {
        let Some((old, new)) = &plan.devices else { return Ok(()) };
        undo.devices = Some((cgroups.clone(), old.clone(), new.clone()));
        set_devices(cgroups, old, new)
    });
    match done {
        Ok(()) => Ok(undo),
        Err(error) => {
            undo.put_back();
            Err(error)
        }
    }
}

fn write_group(group: &GroupPlan, undo: &mut Undo) -> Result<()> {
    let dir = group.cgroup.dir();
    let v2 = group.cgroup.hierarchy.version == Version::V2;
    let mut hand_down = v2::hand_down_once(group);
    let mut missing = || if v2 { hand_down() } else { Ok(false) };
    let mut left: Vec<&FileWrite> = group.writes.iter().collect();
    while !left.is_empty() {
        let count = left.len();
        let mut refused = Vec::new();
        for write in left {
            let Some((file, fd, value)) = control::open_for(None, &dir, write, &mut missing)? else { continue };
            let path = dir.join(file);
            let now = fs::read_to_string(&path).context(|| format!("read {path:?}"))?;
            match control::write_opened(write, &dir, fd, file, value) {
                Ok(()) => undo.writes.push((dir.clone(), file.to_owned(), previous(file, value, &now))),
                Err(error) => refused.push((write, error)),
            }
        }
        // Which of two limits that depend on each other can be set first (memory and its sum with swap, a quota and its
        // period and burst) goes by what is set now: what is refused is tried again after the rest.
        if refused.len() == count {
            return refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error));
        }
        left = refused.into_iter().map(|(write, _)| write).collect();
    }
    control::check_cpusets(&dir, &group.writes)
}

/// What to write to `file` to have again what it said (`now`) before `written` was written to it.
fn previous(file: &str, written: &str, now: &str) -> String {
    // Files that keep a line for each disk, device or interface, with its name first.
    let keyed = ["io.", "blkio.", "rdma.", "net_prio.", "misc.", "dmem."].iter().any(|start| file.starts_with(start));
    if let Some((key, _)) = written.split_once(' ').filter(|_| keyed) {
        let line = now.lines().find(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(' ')));
        let unset = match file {
            "io.max" => "rbps=max wbps=max riops=max wiops=max",
            "rdma.max" => "hca_handle=max hca_object=max",
            "io.latency" => "target=0",
            _ if file.ends_with("weight") => "default",
            _ if file.starts_with("misc.") || file.starts_with("dmem.") => "max",
            _ => "0",
        };
        return line.map_or_else(|| format!("{key} {unset}"), str::to_owned);
    }
    let first = now.lines().next().unwrap_or_default();
    match file {
        "memory.oom_control" => first.rsplit(' ').next().unwrap_or_default().to_owned(),
        // An empty write would be none: a line end is an empty list.
        _ => format!("{first}\n"),
    }
}

/// Puts the policy `new` into the place of `old`.
fn set_devices(cgroups: &ContainerCgroups, old: &DevicePolicy, new: &DevicePolicy) -> Result<()> {
    let v1 = cgroups.0.iter().find(|cgroup| cgroup.hierarchy.has("devices"));
    if let Some(cgroup) = v1 {
        let writes: Vec<FileWrite> =
            transition(old, new).into_iter().map(|(file, value)| FileWrite::of_devices(file, value)).collect();
        return control::write_all(None, &cgroup.dir(), &writes, || Ok(false));
    }
    let Some(cgroup) = cgroups.0.iter().find(|cgroup| cgroup.hierarchy.version == Version::V2) else {
        return Err(Error::new(Kind::Unsupported, "no control group hierarchy of this machine can hold devices back"));
    };
    let dir = cgroup.dir();
    let fd = control::open_dir(&dir).context(|| format!("open control group {dir:?}"))?;
    let program = (!new.allows_all()).then(|| device_program::build(new));
    v2::set_device_program(fd.as_fd(), &dir, program.as_deref())
}

/// The writes that make version 1's exceptions from `old`'s those of `new`; what both allow stays allowed throughout.
fn transition(old: &DevicePolicy, new: &DevicePolicy) -> Vec<(&'static str, String)> {
    let (Ok(before), Ok(after)) = (old.exceptions(), new.exceptions()) else { return Vec::new() };
    let (except, unexcept) =
        if new.allow { ("devices.deny", "devices.allow") } else { ("devices.allow", "devices.deny") };
    let mut writes = Vec::new();
    let without = |rules: &[DeviceRule], from: &DeviceRule| {
        let same = |rule: &&DeviceRule| (rule.kind, rule.major, rule.minor) == (from.kind, from.major, from.minor);
        let there = rules.iter().filter(same).fold(0, |bits, rule| bits | rule.access.0);
        DeviceRule { access: Access(from.access.0 & !there), ..*from }
    };
    if old.allow != new.allow {
        // "a" takes all exceptions away.
        writes.push((unexcept, "a".to_owned()));
        writes.extend(after.iter().map(|rule| (except, rule.to_string())));
        return writes;
    }
    let changes = |from: &[DeviceRule], others: &[DeviceRule], file| {
        let left: Vec<_> = from.iter().map(|rule| without(others, rule)).filter(|rule| rule.access.0 != 0).collect();
        left.into_iter().map(move |rule| (file, rule.to_string()))
    };
    writes.extend(changes(&after, &before, except));
    writes.extend(changes(&before, &after, unexcept));
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_not_named_stays() {
        let old = resources(
            r#"{"memory": {"limit": 10, "swap": 20}, "cpu": {"shares": 5, "cpus": "0", "idle": 1}, "pids": {"limit": 3},
                "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]},
                "devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1}]}"#,
        );
        let new = resources(
            r#"{"memory": {"limit": 15, "swap": 0}, "cpu": {"shares": 0, "cpus": "", "idle": 0}, "pids": {"limit": 0},
                "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 2}, {"major": 8, "minor": 0, "rate": 3}]},
                "devices": [{"allow": true}]}"#,
        );
        let both = serde_json::to_value(merged(&old, &new).unwrap()).unwrap();
        assert_eq!(both["memory"], serde_json::json!({"limit": 15, "swap": 20}));
        assert_eq!(both["cpu"], serde_json::json!({"shares": 5, "cpus": "0", "idle": 0}));
        assert_eq!(both["pids"]["limit"], 3);
        let throttles: Vec<_> =
            both["blockIO"]["throttleReadBpsDevice"].as_array().unwrap().iter().map(|d| d["rate"].clone()).collect();
        assert_eq!(throttles, [3, 2]);
        assert_eq!(both["devices"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_a_file_said_can_be_written_again() {
        for (file, written, now, expected) in [
            ("memory.max", "5", "max\n", "max\n"),
            ("cpu.max", "5 10", "max 100000\n", "max 100000\n"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("io.max", "8:0 rbps=5", "8:0 rbps=1 wbps=max\n", "8:0 rbps=1 wbps=max"),
            ("io.max", "8:0 rbps=5", "8:01 rbps=1\n", "8:0 rbps=max wbps=max riops=max wiops=max"),
            ("io.weight", "50", "default 100\n8:0 7\n", "default 100\n"),
            ("io.bfq.weight", "8:0 50", "default 100\n", "8:0 default"),
            ("blkio.throttle.read_bps_device", "8:0 5", "", "8:0 0"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\n", "0"),
            ("net_prio.ifpriomap", "lo 5", "eth0 1\nlo 2\n", "lo 2"),
        ] {
            assert_eq!(previous(file, written, now), expected, "{file}");
        }
    }

    #[test]
    fn version_1_devices_change_by_their_difference() {
        let policy = |json: &str| {
            let rules: Vec<oci_spec::runtime::LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
            DevicePolicy::new(&rules, &mut Faults::default())
        };
        let old = policy(r#"[{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]"#);
        let new = policy(
            r#"[{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"},
                {"allow": true, "type": "b", "major": 7, "access": "r"}]"#,
        );
        let writes = transition(&old, &new);
        assert_eq!(writes, [("devices.allow", "b 7:* r".to_owned()), ("devices.deny", "c 10:229 w".to_owned())]);
        assert!(transition(&old, &old).is_empty());
        let all = transition(&old, &policy(r#"[{"allow": true}]"#));
        assert_eq!(all, [("devices.allow", "a".to_owned())]);
        assert_eq!(transition(&policy(r#"[{"allow": true}]"#), &old)[0], ("devices.deny", "a".to_owned()));
    }
}
