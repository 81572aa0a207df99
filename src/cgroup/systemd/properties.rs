//! A scope's properties (org.freedesktop.systemd1(5)): from the values of version 2's files, from the device rules, and
//! from annotations.
//!
//! Pure. All limits are written to the files too, by procrt: a property that systemd passes over, for a controller that it
//! does not have, would be a limit that does not hold. The properties are for systemd, which writes its own idea of a
//! unit into the same files whenever it is reloaded.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;

use super::text;
use super::wire::Value;
use crate::cgroup::FileWrite;
use crate::cgroup::devices::{Access, DeviceKind, DevicePolicy, DeviceRule};
use crate::error::Faults;

/// What annotations that are properties begin with.
pub const PREFIX: &str = "org.systemd.property.";
/// Those that say where the processes are, which `linux.cgroupsPath` says.
const OURS: [&str; 4] = ["PIDs", "PIDFDs", "Slice", "Scope"];
/// systemd counts time used in steps of this share of a second, in microseconds.
const QUOTA_STEP: u64 = 10_000;
/// CPUs and memory nodes beyond it are not there: the file's refusal says so.
const MOST_CPUS: usize = 1 << 16;

/// A property of a unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Property {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: Value,
}

impl Property {
    fn new(name: &'static str, value: Value) -> Self {
        Self { name: name.into(), value }
    }

    /// As systemd's methods take it: `(sv)`.
    pub(super) fn to_value(&self) -> Value {
        Value::Struct(vec![Value::text(&*self.name), self.value.clone().variant()])
    }
}

/// What every container's scope has: it is procrt's to divide, does not wait for the machine to be up nor end with its
/// shutdown before others do, is counted, and is forgotten when it has ended, also if it ended by its limits.
pub(super) fn of_every_scope(id: &str, slice: &str) -> Vec<Property> {
    let yes = |name| Property::new(name, Value::Bool(true));
    vec![
        Property::new("Description", Value::text(format!("procrt container {id}"))),
        Property::new("Slice", Value::text(slice)),
        yes("Delegate"),
        Property::new("DefaultDependencies", Value::Bool(false)),
        Property::new("CollectMode", Value::text("inactive-or-failed")),
        yes("MemoryAccounting"),
        yes("CPUAccounting"),
        yes("IOAccounting"),
        yes("TasksAccounting"),
    ]
}

/// The properties that stand for values of version 2's files, where there are any.
pub(super) fn of_writes(writes: &[FileWrite]) -> Vec<Property> {
    of_values(writes.iter().map(|write| (&*write.file, write.value.as_str())))
}

/// The same, from names of files and values; a value may have a line break at its end.
pub(super) fn of_values<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Property> {
    let mut properties = Vec::new();
    for (file, value) in values {
        let value = value.trim_end();
        let mut number = |name| {
            let limit = if value == "max" { Some(u64::MAX) } else { value.parse().ok() };
            properties.extend(limit.map(|limit| Property::new(name, Value::Uint64(limit))));
        };
        match file {
            "memory.max" => number("MemoryMax"),
            "memory.high" => number("MemoryHigh"),
            "memory.low" => number("MemoryLow"),
            "memory.min" => number("MemoryMin"),
            "memory.swap.max" => number("MemorySwapMax"),
            "memory.zswap.max" => number("MemoryZSwapMax"),
            "pids.max" => number("TasksMax"),
            "cpu.weight" => number("CPUWeight"),
            "cpu.max" => properties.extend(quota(value)),
            "cpuset.cpus" => properties.extend(mask(value).map(|mask| Property::new("AllowedCPUs", mask))),
            "cpuset.mems" => properties.extend(mask(value).map(|mask| Property::new("AllowedMemoryNodes", mask))),
            "io.weight" => {
                let weight = value.strip_prefix("default ").unwrap_or(value).parse().ok();
                properties.extend(weight.map(|weight| Property::new("IOWeight", Value::Uint64(weight))));
            }
            _ => {}
        }
    }
    properties
}

/// `cpu.max`, "QUOTA PERIOD" in microseconds or "max PERIOD".
fn quota(value: &str) -> Vec<Property> {
    let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
    let Some(period) = period.parse::<u64>().ok().filter(|period| *period > 0) else { return Vec::new() };
    let each_second = match quota.parse::<u64>() {
        Ok(quota) => quota.saturating_mul(1_000_000).div_ceil(period).next_multiple_of(QUOTA_STEP),
        Err(_) => u64::MAX,
    };
    vec![
        Property::new("CPUQuotaPerSecUSec", Value::Uint64(each_second)),
        Property::new("CPUQuotaPeriodUSec", Value::Uint64(period)),
    ]
}

/// A list such as "0-3,6" as systemd has it: bytes with a bit for each number, the lowest first. An empty one is all.
fn mask(list: &str) -> Option<Value> {
    let mut bytes = Vec::new();
    for part in list.split(',').filter(|part| !part.trim().is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse::<usize>().ok()?, to.trim().parse::<usize>().ok()?);
        if to >= MOST_CPUS {
            return None;
        }
        bytes.resize(bytes.len().max(to / 8 + 1), 0_u8);
        (from..=to).for_each(|number| bytes[number / 8] |= 1 << (number % 8));
    }
    Some(Value::array("y", bytes.into_iter().map(Value::Byte).collect()))
}

/// The device rules as systemd can say them, which is never less than they allow: it has no order of rules and no
/// refusals, and names the driver where a rule has no minor number. What holds exactly is procrt's own program, beside
/// systemd's. `drivers` reads `/proc/devices`, if it is needed.
pub(super) fn of_devices(policy: &DevicePolicy, drivers: impl Fn() -> String) -> Vec<Property> {
    if policy.allow {
        return vec![Property::new("DevicePolicy", Value::text("auto"))];
    }
    let mut known = None;
    let mut rules: Vec<(String, Access)> = Vec::with_capacity(policy.rules.len());
    for rule in policy.rules.iter().filter(|rule| rule.allow) {
        let name = device(rule, |kind, major| driver(known.get_or_insert_with(&drivers), kind, major));
        match rules.iter_mut().find(|(there, _)| *there == name) {
            Some((_, access)) => access.0 |= rule.access.0,
            None => rules.push((name, rule.access)),
        }
    }
    let rules = rules.into_iter().map(|(name, access)| {
        let letters = [(Access::READ, 'r'), (Access::WRITE, 'w'), (Access::MKNOD, 'm')];
        let letters: String =
            letters.iter().filter(|(bit, _)| access.0 & bit.0 != 0).map(|(_, letter)| *letter).collect();
        Value::Struct(vec![Value::text(name), Value::text(letters)])
    });
    vec![
        Property::new("DevicePolicy", Value::text("strict")),
        Property::new("DeviceAllow", Value::array("(ss)", rules.collect())),
    ]
}

fn device(rule: &DeviceRule, driver: impl FnOnce(DeviceKind, u32) -> Option<String>) -> String {
    let kind = if rule.kind == DeviceKind::Block { "block" } else { "char" };
    match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        // The terminals, which every container may use.
        (Some(136), None) if rule.kind == DeviceKind::Char => "char-pts".to_owned(),
        (Some(major), None) => {
            driver(rule.kind, major).map_or_else(|| format!("{kind}-*"), |name| format!("{kind}-{name}"))
        }
        (None, _) => format!("{kind}-*"),
    }
}

/// The driver of a major number in the text of `/proc/devices`: two lists of "NUMBER NAME", each with a line above. One that
/// systemd would take for a pattern is none.
fn driver(devices: &str, kind: DeviceKind, major: u32) -> Option<String> {
    let (chars, blocks) = devices.split_once("Block devices:")?;
    let list = if kind == DeviceKind::Block { blocks } else { chars };
    let name = list.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name)
    })?;
    (!name.contains(['*', '?', '['])).then(|| name.to_owned())
}

/// The properties that annotations ask for, by name: `org.systemd.property.NAME` with a value in the text form of
/// `GVariant`. A name that ends with `Sec` is one of seconds, and becomes systemd's `USec`, of microseconds.
pub(super) fn of_annotations(annotations: &HashMap<String, String>, faults: &mut Faults) -> Vec<Property> {
    let mut properties = Vec::new();
    for (annotation, written) in annotations {
        let Some(name) = annotation.strip_prefix(PREFIX) else { continue };
        match property(name, written) {
            Ok(property) => properties.push(property),
            Err(why) => faults.add(format!("annotations[{annotation:?}]"), format_args!("{written:?}: {why}")),
        }
    }
    properties.sort_by(|a, b| a.name.cmp(&b.name));
    properties
}

fn property(name: &str, written: &str) -> Result<Property, String> {
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(format!("{name:?} is not the name of a property"));
    }
    if OURS.contains(&name) {
        return Err(format!("{name} is for linux.cgroupsPath to say"));
    }
    let value = text::parse(written)?;
    match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
        Some(stem) => Ok(Property { name: format!("{stem}USec").into(), value: microseconds(&value)? }),
        None => Ok(Property { name: name.to_owned().into(), value }),
    }
}

fn microseconds(value: &Value) -> Result<Value, String> {
    let whole = match value {
        Value::Byte(value) => i128::from(*value),
        Value::Int16(value) => i128::from(*value),
        Value::Uint16(value) => i128::from(*value),
        Value::Int32(value) => i128::from(*value),
        Value::Uint32(value) => i128::from(*value),
        Value::Int64(value) => i128::from(*value),
        Value::Uint64(value) => i128::from(*value),
        Value::Double(seconds) if (0.0..1e12).contains(seconds) => return Ok(Value::Uint64((seconds * 1e6) as u64)),
        _ => return Err("a number of seconds is wanted".to_owned()),
    };
    let microseconds = whole.checked_mul(1_000_000).and_then(|value| u64::try_from(value).ok());
    microseconds.map(Value::Uint64).ok_or_else(|| format!("{whole} is no number of seconds"))
}

/// Puts what annotations ask for into the list: in the place of what every scope has, but not of what the configuration's
/// resources say.
pub(super) fn merge(
    list: &mut Vec<Property>,
    resources: Vec<Property>,
    annotations: Vec<Property>,
    faults: &mut Faults,
) {
    for property in annotations {
        if resources.iter().any(|resource| resource.name == property.name) {
            let path = format!("annotations[\"{PREFIX}{}\"]", property.name);
            faults.add(path, "linux.resources says the same or something else already");
        }
        match list.iter_mut().find(|there| there.name == property.name) {
            Some(there) => *there = property,
            None => list.push(property),
        }
    }
    list.extend(resources);
}

#[cfg(test)]
#[path = "properties_tests.rs"]
mod tests;
