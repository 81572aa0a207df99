//! The configuration that `procrt spec` writes: a starting point that runs `sh` in `rootfs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxDeviceCgroupBuilder,
    LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResourcesBuilder, Mount,
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Root, RootBuilder, Spec, User,
};
use serde::Serialize;

use super::{CONFIG, OCI_VERSION};
use crate::error::{Context, Error, Kind, Result};

/// What the container's process may do: enough for a shell and a server on a low port.
const CAPABILITIES: [Capability; 3] = [Capability::AuditWrite, Capability::Kill, Capability::NetBindService];

/// Files of procfs and sysfs that tell of the host or its other users.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

/// Files of procfs that change the host when written.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The configuration of a new bundle; with `rootless`, for a user namespace in which root is that uid and gid.
///
/// A rootless container has no network namespace of its own (nobody could connect it), so sysfs cannot be mounted
/// anew and is bound instead; and no resources, since its control group is the caller's.
pub fn default_spec(rootless: Option<(u32, u32)>) -> Spec {
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root()))
        .set_process(Some(process()))
        .set_hostname(Some("procrt".to_owned()))
        .set_annotations(None)
        .set_mounts(Some(mounts(rootless.is_some())))
        .set_linux(Some(linux(rootless)));
    spec
}

fn root() -> Root {
    RootBuilder::default().path("rootfs").readonly(true).build().unwrap_or_default()
}

fn process() -> Process {
    let set: Capabilities = CAPABILITIES.into_iter().collect();
    let capabilities: LinuxCapabilities = LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()
        .unwrap_or_default();
    let files = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).hard(1024u64).soft(1024u64).build();
    let mut process = Process::default();
    process
        .set_terminal(Some(true))
        .set_args(Some(vec!["sh".to_owned()]))
        .set_env(Some(vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "TERM=xterm".to_owned(),
        ]))
        .set_cwd("/".into())
        .set_capabilities(Some(capabilities))
        .set_rlimits(Some(files.into_iter().collect()))
        .set_no_new_privileges(Some(true));
    process
}

fn mounts(rootless: bool) -> Vec<Mount> {
    let mount = |destination: &str, typ: &str, source: &str, options: &[&str]| {
        let mut mount = Mount::default();
        mount
            .set_destination(destination.into())
            .set_typ(Some(typ.to_owned()))
            .set_source(Some(source.into()))
            .set_options((!options.is_empty()).then(|| options.iter().map(|&option| option.to_owned()).collect()));
        mount
    };
    // Group 5 is tty; a single mapping has no such group.
    let pts: &[&str] = &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let sys = if rootless {
        mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
    } else {
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    };
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", if rootless { &pts[..5] } else { pts }),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

fn linux(rootless: Option<(u32, u32)>) -> Linux {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let types =
        if rootless.is_some() { [Pid, User, Ipc, Uts, Mount, Cgroup] } else { [Pid, Network, Ipc, Uts, Mount, Cgroup] };
    let namespaces: Vec<LinuxNamespace> =
        types.into_iter().flat_map(|typ| LinuxNamespaceBuilder::default().typ(typ).build()).collect();
    let strings = |list: &[&str]| Some(list.iter().map(|&path| path.to_owned()).collect::<Vec<_>>());
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces))
        .set_masked_paths(strings(&MASKED))
        .set_readonly_paths(strings(&READONLY))
        .set_resources(None);
    if let Some((uid, gid)) = rootless {
        let one = |host: u32| {
            LinuxIdMappingBuilder::default().container_id(0u32).host_id(host).size(1u32).build().into_iter()
        };
        linux.set_uid_mappings(Some(one(uid).collect())).set_gid_mappings(Some(one(gid).collect()));
    } else {
        let deny = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build();
        let resources = LinuxResourcesBuilder::default().devices(deny.into_iter().collect::<Vec<_>>()).build();
        linux.set_resources(resources.ok());
    }
    linux
}

/// The file's order of things: what one edits first stands first, and sets are sorted so that every file is the same.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    oci_version: &'a str,
    process: Option<FileProcess<'a>>,
    root: &'a Option<Root>,
    hostname: &'a Option<String>,
    mounts: &'a Option<Vec<Mount>>,
    linux: &'a Option<Linux>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileProcess<'a> {
    terminal: Option<bool>,
    user: &'a User,
    args: &'a Option<Vec<String>>,
    env: &'a Option<Vec<String>>,
    cwd: &'a Path,
    capabilities: BTreeMap<&'static str, BTreeSet<String>>,
    rlimits: &'a Option<Vec<PosixRlimit>>,
    no_new_privileges: Option<bool>,
}

/// The text of a [`default_spec`] as a file, indented with tabs.
///
/// # Errors
/// None in practice: what is written is plain data.
pub fn render(spec: &Spec) -> Result<String> {
    let process = spec.process().as_ref().map(|process| FileProcess {
        terminal: process.terminal(),
        user: process.user(),
        args: process.args(),
        env: process.env(),
        cwd: process.cwd(),
        capabilities: process.capabilities().as_ref().map(sorted).unwrap_or_default(),
        rlimits: process.rlimits(),
        no_new_privileges: process.no_new_privileges(),
    });
    let file = File {
        oci_version: spec.version(),
        process,
        root: spec.root(),
        hostname: spec.hostname(),
        mounts: spec.mounts(),
        linux: spec.linux(),
    };
    let mut text = Vec::with_capacity(4096);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    file.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(|error| Error::system(format!("write the configuration as JSON: {error}")))?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| Error::system(format!("write the configuration as JSON: {error}")))
}

/// The sets that are not empty, each in the order of its names.
fn sorted(capabilities: &LinuxCapabilities) -> BTreeMap<&'static str, BTreeSet<String>> {
    let sets = [
        ("bounding", capabilities.bounding()),
        ("effective", capabilities.effective()),
        ("inheritable", capabilities.inheritable()),
        ("permitted", capabilities.permitted()),
        ("ambient", capabilities.ambient()),
    ];
    sets.into_iter()
        .filter_map(|(name, set)| set.as_ref().filter(|set| !set.is_empty()).map(|set| (name, set)))
        .map(|(name, set)| (name, set.iter().map(|capability| format!("CAP_{capability}")).collect()))
        .collect()
}

/// Writes [`default_spec`] as `config.json` into `bundle`, and overwrites nothing.
///
/// # Errors
/// `Kind::Exists` if there is a `config.json` already; `Kind::System` if it cannot be written, and then there is none.
pub fn write_default(bundle: &Path, rootless: Option<(u32, u32)>) -> Result<()> {
    let path = bundle.join(CONFIG);
    let text = render(&default_spec(rootless))?;
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::new(Kind::Exists, format!("{} exists: remove it first", path.display())));
        }
        opened => opened.context(|| format!("create {path:?}"))?,
    };
    file.write_all(text.as_bytes())
        .inspect_err(|_| drop(std::fs::remove_file(&path)))
        .context(|| format!("write {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant_and_always_the_same() {
        for rootless in [None, Some((1000, 100))] {
            let text = render(&default_spec(rootless)).unwrap();
            assert_eq!(text, render(&default_spec(rootless)).unwrap());
            let mut read: Spec = serde_json::from_str(&text).unwrap();
            // Empty sets are not written.
            let mut meant = default_spec(rootless);
            for spec in [&mut read, &mut meant] {
                let process = spec.process_mut().as_mut().unwrap();
                let mut capabilities = process.capabilities().clone().unwrap();
                assert!(capabilities.inheritable().as_ref().is_none_or(Capabilities::is_empty));
                assert!(capabilities.ambient().as_ref().is_none_or(Capabilities::is_empty));
                capabilities.set_inheritable(None).set_ambient(None);
                process.set_capabilities(Some(capabilities));
            }
            assert_eq!(read, meant);
            assert!(super::super::validate::check(&read).is_empty());
        }
    }

    #[test]
    fn the_file_has_the_expected_text() {
        let value: serde_json::Value = serde_json::from_str(&render(&default_spec(None)).unwrap()).unwrap();
        assert_eq!(value["ociVersion"], "1.3.0");
        assert_eq!(value["process"]["args"], serde_json::json!(["sh"]));
        let set = serde_json::json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        assert_eq!(
            value["process"]["capabilities"],
            serde_json::json!({"bounding": set, "effective": set, "permitted": set})
        );
        assert_eq!(
            value["process"]["rlimits"],
            serde_json::json!([{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}])
        );
        assert_eq!(value["linux"]["resources"]["devices"], serde_json::json!([{"allow": false, "access": "rwm"}]));
        assert_eq!(value["hostname"], "procrt");
    }

    #[test]
    fn a_rootless_container_has_a_mapping_and_neither_network_nor_resources() {
        let spec = default_spec(Some((1000, 100)));
        let linux = spec.linux().as_ref().unwrap();
        let mapping = linux.gid_mappings().as_ref().unwrap()[0];
        assert_eq!((mapping.container_id(), mapping.host_id(), mapping.size()), (0, 100, 1));
        assert!(linux.resources().is_none());
        let namespaces = linux.namespaces().as_ref().unwrap();
        assert!(namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User));
        assert!(!namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Network));
        let text = render(&spec).unwrap();
        assert!(!text.contains("gid=5"));
        assert!(text.contains("\"rbind\""));
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let bundle = tempfile::tempdir().unwrap();
        write_default(bundle.path(), None).unwrap();
        let error = write_default(bundle.path(), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Exists);
        assert!(error.to_string().ends_with("config.json exists: remove it first"), "{error}");
    }

    #[test]
    fn a_bundle_that_is_not_there_is_an_error() {
        let error = write_default(Path::new("/nonexistent"), None).unwrap_err();
        assert_eq!(error.to_string(), r#"create "/nonexistent/config.json": no such file or directory (os error 2)"#);
    }
}
