//! `procrt features`: what this build of procrt understands, in the form of the specification's features.md.

use std::collections::BTreeMap;

use serde::Serialize;

use super::global::Global;
use super::{Run, print_json, version};
use crate::bundle::{OCI_VERSION, OCI_VERSION_MIN};
use crate::error::Result;

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
        print_json(&document(&implemented()), true)
    }
}

/// What the slices implement, each list from its slice; nothing where that is not known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Implemented<'a> {
    /// The hooks of `hooks`.
    pub hooks: Option<&'a [&'a str]>,
    /// The options of `mounts[].options` that are no file system's own.
    pub mount_options: Option<&'a [&'a str]>,
    /// The types of `linux.namespaces[].type`.
    pub namespaces: Option<&'a [&'a str]>,
    /// Which control group managers and controllers there are.
    pub cgroup: Cgroup,
    /// What of `linux.seccomp` is understood.
    pub seccomp: Seccomp<'a>,
    /// Whether `process.apparmorProfile` is applied.
    pub apparmor: bool,
    /// Whether `process.selinuxLabel` and `linux.mountLabel` are applied.
    pub selinux: bool,
    /// Whether `linux.intelRdt` is applied.
    pub intel_rdt: bool,
    /// Whether mounts may have mappings of their own.
    pub idmap: bool,
    /// Whether `linux.netDevices` are moved.
    pub net_devices: bool,
}

/// The `linux.cgroup` object.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cgroup {
    /// cgroup version 1.
    pub v1: bool,
    /// cgroup version 2.
    pub v2: bool,
    /// `--systemd-cgroup` as root.
    pub systemd: bool,
    /// `--systemd-cgroup` with a user's own systemd.
    pub systemd_user: bool,
    /// The rdma controller.
    pub rdma: bool,
}

/// The `linux.seccomp` object.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp<'a> {
    /// Whether there are filters at all.
    pub enabled: bool,
    /// `SCMP_ACT_…`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<&'a [&'a str]>,
    /// `SCMP_CMP_…`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<&'a [&'a str]>,
    /// `SCMP_ARCH_…`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archs: Option<&'a [&'a str]>,
    /// `SECCOMP_FILTER_FLAG_…` that are recognized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_flags: Option<&'a [&'a str]>,
    /// Those of them that can be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported_flags: Option<&'a [&'a str]>,
}

/// What this build implements.
fn implemented() -> Implemented<'static> {
    Implemented::default()
}

/// The features document of [features.md](https://github.com/opencontainers/runtime-spec/blob/v1.3.0/features.md).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hooks: Option<&'a [&'a str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_options: Option<&'a [&'a str]>,
    linux: Linux<'a>,
    annotations: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespaces: Option<&'a [&'a str]>,
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp<'a>,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: Enabled,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// The document that says so.
pub fn document<'a>(implemented: &Implemented<'a>) -> Document<'a> {
    let mut capabilities: Vec<caps::Capability> = caps::all().into_iter().collect();
    capabilities.sort_unstable_by_key(caps::Capability::index);
    let mut annotations = BTreeMap::from([("procrt.version", version::VERSION)]);
    annotations.extend(version::COMMIT.map(|commit| ("procrt.commit", commit)));
    let enabled = |enabled| Enabled { enabled };
    Document {
        oci_version_min: OCI_VERSION_MIN,
        oci_version_max: OCI_VERSION,
        hooks: implemented.hooks,
        mount_options: implemented.mount_options,
        linux: Linux {
            namespaces: implemented.namespaces,
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
            cgroup: implemented.cgroup,
            seccomp: implemented.seccomp,
            apparmor: enabled(implemented.apparmor),
            selinux: enabled(implemented.selinux),
            intel_rdt: enabled(implemented.intel_rdt),
            mount_extensions: MountExtensions { idmap: enabled(implemented.idmap) },
            net_devices: enabled(implemented.net_devices),
        },
        annotations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_specifications() {
        let implemented = Implemented {
            hooks: Some(&["prestart"]),
            mount_options: Some(&["ro"]),
            namespaces: Some(&["mount", "time"]),
            cgroup: Cgroup { v2: true, ..Cgroup::default() },
            seccomp: Seccomp {
                enabled: true,
                actions: Some(&["SCMP_ACT_ERRNO"]),
                archs: Some(&["SCMP_ARCH_X86_64"]),
                ..Seccomp::default()
            },
            idmap: true,
            ..Implemented::default()
        };
        let text = serde_json::to_string(&document(&implemented)).unwrap();
        let features: oci_spec::runtime::Features = serde_json::from_str(&text).unwrap();
        assert_eq!(features.oci_version_min(), "1.0.0");
        assert_eq!(features.oci_version_max(), "1.3.0");
        assert_eq!(features.mount_options().as_deref(), Some(&["ro".to_owned()][..]));
        let linux = features.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 2);
        assert_eq!(linux.cgroup().as_ref().unwrap().v2(), &Some(true));
        assert_eq!(linux.seccomp().as_ref().unwrap().archs().as_ref().unwrap().len(), 1);
        assert_eq!(linux.mount_extensions().as_ref().unwrap().idmap().as_ref().unwrap().enabled(), &Some(true));
        let capabilities = linux.capabilities().as_ref().unwrap();
        assert_eq!(capabilities[0], "CAP_CHOWN");
        assert_eq!(capabilities.last().unwrap(), "CAP_CHECKPOINT_RESTORE");
        assert!(!text.contains("null"));
    }
}
