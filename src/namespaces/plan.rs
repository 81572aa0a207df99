//! What config.json says about namespaces, and what of it cannot be.

use std::collections::{BTreeMap, HashMap};

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use super::{IdMapping, Join, Namespace, NamespacesPlan, net_devices, sysctl};
use crate::error::Faults;
use crate::host::id_mapping;

fn kind_of(typ: LinuxNamespaceType) -> Namespace {
    match typ {
        LinuxNamespaceType::Mount => Namespace::Mount,
        LinuxNamespaceType::Cgroup => Namespace::Cgroup,
        LinuxNamespaceType::Uts => Namespace::Uts,
        LinuxNamespaceType::Ipc => Namespace::Ipc,
        LinuxNamespaceType::User => Namespace::User,
        LinuxNamespaceType::Pid => Namespace::Pid,
        LinuxNamespaceType::Network => Namespace::Network,
        LinuxNamespaceType::Time => Namespace::Time,
    }
}

/// Decides about namespaces (config-linux.md, "Namespaces", "User namespace mappings", "Offset for Time Namespace",
/// "Network Devices", "Sysctl"; config.md, "Hostname", "Domainname").
pub fn plan(spec: &Spec, faults: &mut Faults) -> NamespacesPlan {
    let mut plan = NamespacesPlan::default();
    let Some(linux) = spec.linux() else {
        return plan;
    };
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let kind = kind_of(namespace.typ());
        if plan.has(kind) {
            faults.add(format!("linux.namespaces[{index}].type"), format_args!("{:?} is there twice", kind.name()));
            continue;
        }
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => {
                if !path.is_absolute() {
                    faults.add(
                        format!("linux.namespaces[{index}].path"),
                        format_args!("{:?} is not an absolute path", path.display().to_string()),
                    );
                }
                plan.join.push(Join { kind, path: path.clone(), index });
            }
            _ => plan.new.push(kind),
        }
    }
    // The user namespace comes first: it owns, or allows, the others.
    plan.join.sort_by_key(|join| join.kind != Namespace::User);

    plan.uid_mappings = mappings("linux.uidMappings", linux.uid_mappings().as_ref(), &plan, faults);
    plan.gid_mappings = mappings("linux.gidMappings", linux.gid_mappings().as_ref(), &plan, faults);
    if plan.makes(Namespace::User) {
        for (path, mappings) in [("linux.uidMappings", &plan.uid_mappings), ("linux.gidMappings", &plan.gid_mappings)] {
            if mappings.is_empty() {
                faults.add(path, "a new user namespace needs at least one mapping");
            }
        }
        if !plan.makes(Namespace::Mount) {
            let what = "a new user namespace needs a new mount namespace: in another's nothing can be mounted from it";
            faults.add("linux.namespaces", what);
        }
    }

    plan.time_offsets = time_offsets(linux.time_offsets().as_ref(), &plan, faults);
    plan.net_devices = net_devices::plan(linux.net_devices().as_ref(), &plan, faults);

    for (field, name, longest) in [("hostname", spec.hostname(), 64), ("domainname", spec.domainname(), 64)] {
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else {
            continue;
        };
        if !plan.has(Namespace::Uts) {
            faults.add(field, format_args!("{name:?} needs a namespace of type \"uts\" in linux.namespaces"));
        }
        if name.len() > longest {
            faults.add(field, format_args!("{name:?} is longer than {longest} bytes"));
        }
    }
    plan.hostname = spec.hostname().clone().filter(|name| !name.is_empty());
    plan.domainname = spec.domainname().clone().filter(|name| !name.is_empty());

    let parameters: BTreeMap<_, _> = linux.sysctl().iter().flatten().collect();
    plan.sysctl = sysctl::plan(parameters, &plan, faults);
    plan
}

fn mappings(
    path: &str,
    mappings: Option<&Vec<LinuxIdMapping>>,
    plan: &NamespacesPlan,
    faults: &mut Faults,
) -> Vec<IdMapping> {
    let Some(list) = mappings.filter(|list| !list.is_empty()) else {
        return Vec::new();
    };
    if !plan.has(Namespace::User) {
        faults.add(path, "mappings need a user namespace in linux.namespaces");
    } else if plan.joins(Namespace::User) {
        // A joined namespace has its map; engines repeat it in the configuration, and it is not written again.
        return Vec::new();
    }
    id_mapping::plan(path, list, faults)
}

fn time_offsets(
    offsets: Option<&HashMap<String, oci_spec::runtime::LinuxTimeOffset>>,
    plan: &NamespacesPlan,
    faults: &mut Faults,
) -> Vec<(&'static str, i64, u32)> {
    let sorted: BTreeMap<_, _> = offsets.into_iter().flatten().collect();
    if !sorted.is_empty() && !plan.makes(Namespace::Time) {
        faults.add("linux.timeOffsets", "offsets need a new time namespace in linux.namespaces");
    }
    let mut lines = Vec::new();
    for (clock, offset) in sorted {
        let known = match clock.as_str() {
            "monotonic" => "monotonic",
            "boottime" => "boottime",
            _ => {
                faults.add(
                    format!("linux.timeOffsets.{clock}"),
                    format_args!("{clock:?} is not a clock with an offset (boottime, monotonic)"),
                );
                continue;
            }
        };
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            faults.add(
                format!("linux.timeOffsets.{clock}.nanosecs"),
                format_args!("{nanoseconds} is not below 1000000000"),
            );
        }
        lines.push((known, offset.secs().unwrap_or(0), nanoseconds));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(linux: &str) -> (NamespacesPlan, String) {
        let text = format!(r#"{{"ociVersion":"1.2.0","hostname":"h","linux":{linux}}}"#);
        let spec: Spec = serde_json::from_str(&text).unwrap();
        let mut faults = Faults::default();
        let plan = plan(&spec, &mut faults);
        (plan, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn cgroup_and_time_namespaces_are_left_to_the_child() {
        let (plan, faults) =
            planned(r#"{"namespaces":[{"type":"uts"},{"type":"cgroup"},{"type":"time"},{"type":"pid"}]}"#);
        assert_eq!(faults, "");
        assert_eq!(plan.clone_flags(), (libc::CLONE_NEWUTS | libc::CLONE_NEWPID) as u64);
    }

    #[test]
    fn a_namespace_named_twice_is_a_fault() {
        let (_, faults) = planned(r#"{"namespaces":[{"type":"uts"},{"type":"uts","path":"/x"}]}"#);
        assert_eq!(faults, r#"linux.namespaces[1].type: "uts" is there twice"#);
    }

    #[test]
    fn a_host_name_needs_a_uts_namespace() {
        let (_, faults) = planned(r#"{"namespaces":[]}"#);
        assert_eq!(faults, r#"hostname: "h" needs a namespace of type "uts" in linux.namespaces"#);
    }

    #[test]
    fn mappings_are_checked_whole() {
        let (_, faults) = planned(
            r#"{"namespaces":[{"type":"mount"},{"type":"uts"},{"type":"user"}],
                "uidMappings":[{"containerID":0,"hostID":1,"size":0},{"containerID":4294967295,"hostID":1,"size":2}]}"#,
        );
        assert_eq!(
            faults,
            "linux.uidMappings[0].size: 0 maps nothing; linux.uidMappings[1].containerID: 4294967295 + 2 is more than \
             4294967295; linux.gidMappings: a new user namespace needs at least one mapping"
        );
        let (_, faults) =
            planned(r#"{"namespaces":[{"type":"uts"}],"gidMappings":[{"containerID":0,"hostID":1,"size":1}]}"#);
        assert_eq!(faults, "linux.gidMappings: mappings need a user namespace in linux.namespaces");
        let (_, faults) = planned(
            r#"{"namespaces":[{"type":"mount"},{"type":"uts"},{"type":"user"}],"gidMappings":[{"containerID":0,"hostID":1,"size":1}],
                "uidMappings":[{"containerID":0,"hostID":10,"size":5},{"containerID":5,"hostID":14,"size":5}]}"#,
        );
        assert_eq!(faults, "linux.uidMappings[1].hostID: 14 overlaps mapping 0");
    }

    #[test]
    fn offsets_need_a_time_namespace_and_a_clock_that_can_have_one() {
        let (plan, faults) =
            planned(r#"{"namespaces":[{"type":"uts"},{"type":"time"}],"timeOffsets":{"boottime":{"secs":-5}}}"#);
        assert_eq!((plan.time_offsets, faults.as_str()), (vec![("boottime", -5, 0)], ""));
        let (_, faults) = planned(r#"{"namespaces":[{"type":"uts"}],"timeOffsets":{"realtime":{"secs":1}}}"#);
        assert!(
            faults.contains("offsets need a new time namespace") && faults.contains(r#""realtime" is not a clock"#),
            "{faults}"
        );
    }
}
