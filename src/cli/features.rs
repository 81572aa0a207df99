//! `procrt features`: what this build of procrt understands, in the form of the specification's features.md.

use std::collections::BTreeMap;

use serde::Serialize;

use super::global::Global;
use super::{Run, print_json, version};
use crate::bundle::{OCI_VERSION, OCI_VERSION_MIN};
use crate::cgroup::systemd;
use crate::error::Result;
use crate::hooks::HooksPlan;
use crate::process::memory_policy;
use crate::seccomp::support;
use crate::{namespaces, rootfs};

/// Print what procrt supports as JSON
///
/// The document is the runtime specification's features document: what this build understands in a config.json, whatever
/// this machine can do.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  procrt features | jq .mountOptions
")]
pub struct Args {}

impl Run for Args {
    const NAME: &'static str = "features";

    fn run(self, _: &Global) -> Result<i32> {
        print_json(&document(), true)
    }
}

/// The `linux.cgroup` object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

/// The `linux.seccomp` object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: Vec<String>,
    operators: Vec<String>,
    archs: Vec<String>,
    known_flags: Vec<String>,
    supported_flags: Vec<String>,
}

/// The features document of [features.md](https://github.com/opencontainers/runtime-spec/blob/v1.3.0/features.md).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: Vec<&'static str>,
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, &'static str>,
    /// Annotations of a configuration that change what is done; what ends with a dot is what they begin with.
    potentially_unsafe_config_annotations: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<&'static str>,
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

/// The `linux.intelRdt` object.
#[derive(Debug, Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

/// The `linux.memoryPolicy` object.
#[derive(Debug, Serialize)]
struct MemoryPolicy {
    modes: Vec<String>,
    flags: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// What this build understands, each list from the slice that implements it.
pub fn document() -> Document {
    let mut capabilities: Vec<caps::Capability> = caps::all().into_iter().collect();
    capabilities.sort_unstable_by_key(caps::Capability::index);
    let mut annotations = BTreeMap::from([("procrt.version", version::VERSION)]);
    annotations.extend(version::COMMIT.map(|commit| ("procrt.commit", commit)));
    let enabled = |enabled| Enabled { enabled };
    Document {
        oci_version_min: OCI_VERSION_MIN,
        oci_version_max: OCI_VERSION,
        hooks: HooksPlan::default().kinds().iter().map(|(name, _)| *name).collect(),
        mount_options: rootfs::options::names().collect(),
        linux: Linux {
            namespaces: namespaces::NAMES.iter().map(|(name, _)| *name).collect(),
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
            cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: Seccomp {
                enabled: true,
                actions: support::actions(),
                operators: support::operators(),
                archs: support::architectures(),
                known_flags: support::known_flags(),
                supported_flags: support::supported_flags(),
            },
            apparmor: enabled(true),
            selinux: enabled(true),
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
            memory_policy: MemoryPolicy {
                modes: memory_policy::MODES.iter().map(ToString::to_string).collect(),
                flags: memory_policy::FLAGS.iter().map(ToString::to_string).collect(),
            },
            mount_extensions: MountExtensions { idmap: enabled(rootfs::options::maps_ids()) },
            net_devices: enabled(true),
        },
        annotations,
        potentially_unsafe_config_annotations: vec![systemd::PROPERTY_ANNOTATIONS],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::bundle::Bundle;
    use crate::container::CreateOptions;
    use crate::container::plan::{Host, decide};
    use crate::error::Faults;
    use crate::host::caller::Caller;
    use crate::host::cgroups::{Hierarchies, Hierarchy, Layout, Version};

    /// What speaks against a configuration with this in `linux`, on a machine with every controller of version 2.
    fn faults_of(linux: &Value) -> Option<String> {
        let mut config = json!({
            "ociVersion": "1.3.0", "root": {"path": "r"}, "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["x"]},
            "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}]}
        });
        config["linux"].as_object_mut().unwrap().extend(linux.as_object().unwrap().clone());
        let bundle = Bundle {
            dir: "/b".into(),
            rootfs: "/b/r".into(),
            spec: serde_json::from_str(&config.to_string()).unwrap(),
        };
        let unified = Hierarchy {
            version: Version::V2,
            mount_point: "/sys/fs/cgroup".into(),
            controllers: ["cpuset", "cpu", "io", "memory", "pids", "rdma"].map(str::to_owned).into(),
            own_path: None,
        };
        let hierarchies = Hierarchies::new(Layout::Unified, vec![unified]);
        let options = CreateOptions { id: "x".to_owned(), ..CreateOptions::default() };
        let mut faults = Faults::default();
        let host = Host { hierarchies: &hierarchies, systemd: None, caller: &Caller::ROOT };
        decide(&bundle, &options, &host, &mut faults);
        faults.into_result().err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_said_to_be_there_is_planned() {
        let linux = document().linux;
        for (said, fields) in [
            (linux.cgroup.rdma, json!({"resources": {"rdma": {"mlx5_0": {"hcaHandles": 1}}}})),
            (linux.intel_rdt.enabled, json!({"intelRdt": {"closID": "x", "l3CacheSchema": "L3:0=f"}})),
            (linux.intel_rdt.schemata, json!({"intelRdt": {"schemata": ["L3:0=f"]}})),
            (linux.intel_rdt.monitoring, json!({"intelRdt": {"enableMonitoring": true}})),
            (linux.net_devices.enabled, json!({"netDevices": {"eth0": {"name": "net0"}}})),
        ] {
            let faults = faults_of(&fields);
            assert_eq!(faults.is_none(), said, "{fields}: {faults:?}");
        }
        if !crate::sys::memory::has_memory_policies() {
            return;
        }
        for mode in &linux.memory_policy.modes {
            let nodes = if matches!(mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL") { "" } else { "0" };
            assert_eq!(faults_of(&json!({"memoryPolicy": {"mode": mode, "nodes": nodes}})), None, "{mode}");
        }
        for flag in &linux.memory_policy.flags {
            let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]});
            assert_eq!(faults_of(&json!({"memoryPolicy": policy})), None, "{flag}");
        }
    }

    #[test]
    fn the_document_is_the_specifications() {
        let text = serde_json::to_string(&document()).unwrap();
        let features: oci_spec::runtime::Features = serde_json::from_str(&text).unwrap();
        assert_eq!((features.oci_version_min().as_str(), features.oci_version_max().as_str()), ("1.0.0", "1.3.0"));
        assert!(features.mount_options().as_ref().unwrap().contains(&"rro".to_owned()));
        let linux = features.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 8);
        assert_eq!(linux.cgroup().as_ref().unwrap().v2(), &Some(true));
        let seccomp = linux.seccomp().as_ref().unwrap();
        assert!(seccomp.actions().as_ref().is_some_and(|actions| !actions.is_empty()));
        let capabilities = linux.capabilities().as_ref().unwrap();
        assert_eq!(capabilities[0], "CAP_CHOWN");
        assert_eq!(capabilities.last().unwrap(), "CAP_CHECKPOINT_RESTORE");
        assert!(!text.contains("null"));
    }
}
