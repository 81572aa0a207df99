//! What config.json says about the root, and what of it cannot be.

use std::path::{Path, PathBuf};

use nix::sys::stat::stat;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount, Spec};

use super::id_map;
use super::inside::without_dots;
use super::options::{self, Options};
use super::{Device, Fresh, MountPlan, RootfsPlan, Switch, What};
use crate::error::Faults;
use crate::host::id_mapping::{self, IdMapping};
use crate::host::lsm::{self, Label, Missing};

/// What the plan of the root takes from elsewhere.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The bundle's directory, absolute: relative sources are below it.
    pub bundle: &'a Path,
    /// The root file system's directory, absolute and resolved.
    pub rootfs: &'a Path,
    /// The container has a mount namespace of its own, made or joined.
    pub mount_namespace: bool,
    /// The container has a user namespace of its own, made or joined.
    pub user_namespace: bool,
    /// The maps of user and group ids of the user namespace that is made for the container.
    pub id_mappings: (&'a [IdMapping], &'a [IdMapping]),
    /// File systems, by type, that show what the container shares with the host, and where the host has them.
    pub shared: &'a [(&'static str, &'static str)],
    /// The container's directory in each hierarchy, with the name it has below /sys/fs/cgroup; an empty name for the
    /// only hierarchy of pure cgroup v2.
    pub cgroups: &'a [(String, PathBuf)],
    /// The container's directory in the cgroup v2 hierarchy, if the host has one.
    pub cgroup2: Option<&'a Path>,
    /// Other names of hierarchies: name and target.
    pub cgroup_links: &'a [(String, String)],
    /// Instead of `rootfs`, a root that is made in memory.
    pub fresh: Option<&'a Fresh>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// What becomes of a label for a security module that is not at work.
    pub missing_lsm: Missing,
}

/// The devices that every container has (config-linux.md, "Default Devices"): path, major, minor.
pub const DEFAULT_DEVICES: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// What may be mounted inside /proc: files that LXCFS and its like serve with the container's own numbers.
const INSIDE_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Decides about the root (config.md, "Root", "Mounts"; config-linux.md, "Devices", "Default Devices", "Rootfs Mount
/// Propagation", "Masked Paths", "Readonly Paths").
pub fn plan(spec: &Spec, around: &Surroundings, faults: &mut Faults) -> RootfsPlan {
    let linux = spec.linux().as_ref();
    let mounts: Vec<MountPlan> = spec
        .mounts()
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, mount)| plan_mount(index, mount, around, faults))
        .collect();

    let slave = (nix::mount::MsFlags::MS_SLAVE.bits(), true);
    let (propagation, final_propagation) = match linux.and_then(|linux| linux.rootfs_propagation().as_deref()) {
        None | Some("") => (slave, None),
        Some(name) if !around.mount_namespace => {
            let what = format_args!("{name:?} needs a namespace of type \"mount\" in linux.namespaces");
            faults.add("linux.rootfsPropagation", what);
            (slave, None)
        }
        Some(name) => match options::propagation(name) {
            // The making needs mounts that can be bound, so "unbindable" is for the finished root alone.
            Some(chosen) if chosen.0 == nix::mount::MsFlags::MS_UNBINDABLE.bits() => (slave, Some(chosen)),
            Some(chosen) if chosen.0 == nix::mount::MsFlags::MS_SHARED.bits() => ((chosen.0, true), Some(chosen)),
            Some(chosen) => ((chosen.0, true), None),
            None => {
                let known = "private, rprivate, shared, rshared, slave, rslave, unbindable, runbindable";
                faults.add("linux.rootfsPropagation", format_args!("{name:?} is not a propagation type ({known})"));
                (slave, None)
            }
        },
    };

    let switch = match (around.mount_namespace, around.no_pivot) {
        (false, _) => Switch::Chroot,
        (true, true) => Switch::Move,
        (true, false) => Switch::Pivot,
    };
    let bound_dev =
        |mount: &MountPlan| mount.destination == Path::new("/dev") && matches!(mount.what, What::Bind { .. });
    let process = spec.process().as_ref();
    let paths = |field: &str, list: Option<&Vec<String>>, faults: &mut Faults| {
        let mut planned = Vec::new();
        for (index, path) in list.into_iter().flatten().enumerate() {
            if Path::new(path).is_absolute() {
                planned.push(PathBuf::from("/").join(without_dots(Path::new(path))));
            } else {
                faults.add(format!("linux.{field}[{index}]"), format_args!("{path:?} is not an absolute path"));
            }
        }
        planned
    };
    let label = linux.and_then(|linux| linux.mount_label().as_deref());
    RootfsPlan {
        mount_label: lsm::plan("linux.mountLabel", label, Label::SelinuxFiles, around.missing_lsm, faults),
        root: around.rootfs.to_owned(),
        fresh: around.fresh.cloned(),
        switch,
        readonly: spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false),
        propagation,
        final_propagation,
        own_dev: !mounts.iter().any(bound_dev),
        mounts,
        devices: plan_devices(spec, around.user_namespace, faults),
        bind_devices: around.user_namespace,
        console: process.and_then(oci_spec::runtime::Process::terminal).unwrap_or(false),
        masked: paths("maskedPaths", linux.and_then(|linux| linux.masked_paths().as_ref()), faults),
        readonly_paths: paths("readonlyPaths", linux.and_then(|linux| linux.readonly_paths().as_ref()), faults),
        cwd: process.map_or_else(|| "/".into(), |process| process.cwd().clone()),
    }
}

fn plan_mount(index: usize, mount: &Mount, around: &Surroundings, faults: &mut Faults) -> Option<MountPlan> {
    let at = |field: &str| format!("mounts[{index}].{field}");
    let destination = mount.destination();
    let shown = destination.display().to_string();
    if destination.as_os_str().is_empty() {
        faults.add(at("destination"), "is empty");
        return None;
    }
    if !destination.is_absolute() {
        let absolute = Path::new("/").join(without_dots(destination)).display().to_string();
        let what = format_args!("{shown:?} is not an absolute path: write {absolute:?}, which is what it would mean");
        faults.add(at("destination"), what);
        return None;
    }
    let destination = Path::new("/").join(without_dots(destination));
    if destination == Path::new("/") {
        faults.add(at("destination"), format_args!("{shown:?} is the root itself"));
        return None;
    }
    if destination.starts_with("/proc")
        && destination != Path::new("/proc")
        && !INSIDE_PROC.iter().any(|path| destination == Path::new(path))
    {
        faults.add(
            at("destination"),
            format_args!("{shown:?} is inside /proc, where only {} may be mounted", INSIDE_PROC.join(", ")),
        );
        return None;
    }
    let options = Options::read(mount.options().as_deref().unwrap_or_default());
    let id_map = id_map::plan(index, mount, &options, around, faults);
    let typ = mount.typ().as_deref().unwrap_or("");
    let source = mount.source().as_ref();
    if options.copy_up && (typ != "tmpfs" || options.remount || options.bind.is_some()) {
        faults.add(at("options"), "\"tmpcopyup\" is for a new tmpfs");
    }
    let what = if options.remount {
        for (key, _) in &options.data {
            faults.unsupported(at("options"), format_args!("{key:?}: a remount changes attributes of the mount alone"));
        }
        What::Remount
    } else if let Some(recursive) = options.bind.or((typ == "bind").then_some(true)) {
        let Some(source) = source.filter(|source| !source.as_os_str().is_empty()) else {
            faults.add(at("source"), "a bind mount needs a source");
            return None;
        };
        without_effect("a bind mount", &options, &at("options"), faults);
        What::Bind { source: around.bundle.join(source), recursive }
    } else {
        if matches!(typ, "cgroup" | "cgroup2") {
            without_effect("a mount of control groups", &options, &at("options"), faults);
        }
        match typ {
            "" => {
                faults.add(at("type"), "is empty, and the options have no bind or rbind");
                return None;
            }
            "cgroup" => What::Cgroups { binds: around.cgroups.to_vec(), links: around.cgroup_links.to_vec() },
            "cgroup2" => match around.cgroup2 {
                Some(directory) => {
                    What::Cgroups { binds: vec![(String::new(), directory.to_owned())], links: Vec::new() }
                }
                None => {
                    faults.unsupported(at("type"), "\"cgroup2\": this host has no cgroup v2 hierarchy");
                    return None;
                }
            },
            // Of a root in memory, this is one more part: nothing but the directory to be read has to be there.
            "overlay" if around.fresh.is_some() && !options.data.iter().any(|(key, _)| key == "lowerdir") => {
                let Some(source) = source else {
                    faults.add(at("source"), "is missing: a directory of the host's");
                    return None;
                };
                What::Overlay { lower: around.bundle.join(source), data: options.data }
            }
            _ => What::FileSystem {
                name: typ.to_owned(),
                source: source.map_or_else(|| typ.to_owned(), |source| source.display().to_string()),
                data: options.data,
                copy_up: options.copy_up,
                hosts: around.shared.iter().find(|(name, _)| *name == typ).map(|(_, path)| *path),
            },
        }
    };
    if destination == Path::new("/proc") && !matches!(&what, What::Bind { .. } | What::Remount) && typ != "proc" {
        let what = format_args!("{typ:?} is not what belongs on /proc: that is \"proc\", or a bind mount of one");
        faults.add(at("type"), what);
    }
    if let What::FileSystem { data, .. } = &what {
        check_owner(data, around, &at("options"), faults);
    }
    if id_map.is_some() && !matches!(what, What::Bind { .. }) {
        faults.add(at("options"), "ids are mapped of bind mounts alone (bind, rbind)");
    }
    Some(MountPlan {
        index,
        destination,
        what,
        id_map,
        attributes: options.attributes,
        recursive: options.recursive,
        propagation: options.propagation,
    })
}

/// What a file system is told to give its files to has to be somebody in the container's user namespace.
fn check_owner(data: &[(String, Option<String>)], around: &Surroundings, at: &str, faults: &mut Faults) {
    let (uids, gids) = around.id_mappings;
    for (option, mappings) in [("uid", uids), ("gid", gids)] {
        let value = data.iter().rfind(|(key, _)| key == option).and_then(|(_, value)| value.as_deref());
        let Some(id) = value.and_then(|value| value.parse::<u32>().ok()) else {
            continue;
        };
        if !mappings.is_empty() && !id_mapping::maps(mappings, id) {
            let what =
                format_args!("{option}={id}: {id} is not mapped in linux.{option}Mappings (leave the option out)");
            faults.add(at, what);
        }
    }
}

/// As mount(2) says of a bind mount, the file system's parameters are ignored on `what`: the file system is mounted already. A
/// word without a value is more likely a flag that was misspelt, and would be missed.
fn without_effect(what: &str, options: &Options, at: &str, faults: &mut Faults) {
    for (key, value) in options.data.iter().filter(|(key, _)| !SUPERBLOCK_WORDS.contains(&key.as_str())) {
        match value {
            Some(_) => log::warn!("{at}: {key:?} has no effect on {what}"),
            None => faults.add(at, format_args!("{key:?} is not an option of {what}")),
        }
    }
}

/// Superblock parameters, which a bind mount cannot change and mount(8) ignores there.
const SUPERBLOCK_WORDS: [&str; 9] =
    ["async", "sync", "dirsync", "mand", "nomand", "lazytime", "nolazytime", "silent", "iversion"];

fn plan_devices(spec: &Spec, bound: bool, faults: &mut Faults) -> Vec<Device> {
    let mut devices: Vec<Device> = DEFAULT_DEVICES
        .iter()
        .map(|(path, major, minor)| Device {
            path: (*path).into(),
            kind: libc::S_IFCHR,
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    let configured = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    for (index, configured_device) in configured.into_iter().flatten().enumerate() {
        let device = configured_device;
        let at = |field: &str| format!("linux.devices[{index}].{field}");
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::P => libc::S_IFIFO,
            LinuxDeviceType::A => {
                faults.add(at("type"), "\"a\" is not a type of device node (b, c, p, u)");
                continue;
            }
        };
        let path = device.path();
        if !path.is_absolute() {
            faults.add(at("path"), format_args!("{:?} is not an absolute path", path.display().to_string()));
            continue;
        }
        let number = |field: &str, value: i64, most: i64, faults: &mut Faults| {
            if kind != libc::S_IFIFO && !(0..=most).contains(&value) {
                faults.add(at(field), format_args!("{value} is not within 0..={most}"));
            }
            value.clamp(0, most) as u64
        };
        if kind != libc::S_IFIFO && device.major() == 0 && device.minor() == 0 {
            faults.add(at("major"), "is missing, and so is minor");
        }
        let device = Device {
            path: Path::new("/").join(without_dots(path)),
            kind,
            major: number("major", device.major(), 0xfff, faults),
            minor: number("minor", device.minor(), 0xf_ffff, faults),
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        };
        if bound && kind != libc::S_IFIFO {
            warn_of_bound(index, configured_device, &device);
        }
        // One that the configuration names replaces the default one.
        devices.retain(|other| other.path != device.path);
        devices.push(device);
    }
    devices
}

/// In a user namespace the device is the host's, with the host's mode and owner.
fn warn_of_bound(index: usize, configured: &LinuxDevice, device: &Device) {
    let Ok(host) = stat(&device.path) else {
        return; // that it is not there is said when it is to be bound
    };
    let mode =
        configured.file_mode().map(|mode| (format!("0{:o}", mode & 0o7777), format!("0{:o}", host.st_mode & 0o7777)));
    let uid = configured.uid().map(|uid| (uid.to_string(), host.st_uid.to_string()));
    let gid = configured.gid().map(|gid| (gid.to_string(), host.st_gid.to_string()));
    for (field, values) in [("fileMode", mode), ("uid", uid), ("gid", gid)] {
        if let Some((wanted, there)) = values.filter(|(wanted, there)| wanted != there) {
            log::warn!(
                "linux.devices[{index}].{field}: {wanted} has no effect: in a user namespace {:?} is the host's, which has {there}",
                device.path.display().to_string()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str) -> (RootfsPlan, String) {
        let spec: Spec = serde_json::from_str(text).unwrap();
        let around = Surroundings {
            fresh: None,
            bundle: Path::new("/bundle"),
            rootfs: Path::new("/bundle/rootfs"),
            mount_namespace: true,
            user_namespace: false,
            id_mappings: (&[], &[]),
            shared: &[],
            cgroups: &[(String::new(), "/sys/fs/cgroup/procrt/x".into())],
            cgroup2: Some(Path::new("/sys/fs/cgroup/procrt/x")),
            cgroup_links: &[],
            no_pivot: false,
            missing_lsm: Missing::Refused,
        };
        let mut faults = Faults::default();
        let plan = plan(&spec, &around, &mut faults);
        (plan, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
    }

    fn mount(json: &str) -> (RootfsPlan, String) {
        planned(&format!(r#"{{"ociVersion":"1.0.0","mounts":[{json}],"linux":{{}}}}"#))
    }

    #[test]
    fn a_relative_source_is_below_the_bundle_and_dots_are_taken_out_of_the_destination() {
        let (plan, faults) =
            mount(r#"{"destination":"/a/../b/./c","source":"data","type":"none","options":["bind","ro"]}"#);
        assert_eq!(faults, "");
        assert_eq!(plan.mounts[0].destination, Path::new("/b/c"));
        assert_eq!(plan.mounts[0].what, What::Bind { source: "/bundle/data".into(), recursive: false });
    }

    #[test]
    fn wrong_destinations_are_faults_by_their_place() {
        for (destination, expected) in [
            (
                "relative/./x",
                r#"mounts[0].destination: "relative/./x" is not an absolute path: write "/relative/x", which is what it would mean"#,
            ),
            ("", "mounts[0].destination: is empty"),
            ("/..", r#"mounts[0].destination: "/.." is the root itself"#),
        ] {
            let (_, faults) = mount(&format!(r#"{{"destination":"{destination}","source":"/x","options":["bind"]}}"#));
            assert_eq!(faults, expected);
        }
        let (_, faults) = mount(r#"{"destination":"/proc/self","source":"/x","options":["bind"]}"#);
        assert!(faults.contains("is inside /proc"), "{faults}");
        assert_eq!(mount(r#"{"destination":"/proc/meminfo","source":"/x","options":["bind"]}"#).1, "");
    }

    #[test]
    fn a_mount_is_a_bind_or_has_a_type() {
        assert!(mount(r#"{"destination":"/x","source":"y"}"#).1.starts_with("mounts[0].type: is empty"));
        assert_eq!(
            mount(r#"{"destination":"/x","options":["bind"]}"#).1,
            "mounts[0].source: a bind mount needs a source"
        );
    }

    #[test]
    fn parameters_of_a_file_system_do_nothing_on_a_bind_mount_and_unknown_flags_are_faults() {
        let (plan, faults) = mount(r#"{"destination":"/x","source":"/y","options":["bind","size=5","mode=755","ro"]}"#);
        assert_eq!(faults, "");
        assert_eq!(plan.mounts[0].attributes.set, crate::sys::mount::attr::RDONLY);
        let (_, faults) = mount(r#"{"destination":"/x","source":"/y","options":["bind","r0"]}"#);
        assert_eq!(faults, r#"mounts[0].options: "r0" is not an option of a bind mount"#);
    }

    #[test]
    fn options_that_would_do_nothing_are_faults() {
        let remount = mount(r#"{"destination":"/x","options":["remount","ro","size=5"]}"#).1;
        assert_eq!(remount, r#"mounts[0].options: "size": a remount changes attributes of the mount alone"#);
        for (typ, options) in
            [("none", r#""bind","tmpcopyup""#), ("", r#""remount","tmpcopyup""#), ("proc", r#""tmpcopyup""#)]
        {
            let text = format!(r#"{{"destination":"/x","source":"/y","type":"{typ}","options":[{options}]}}"#);
            assert_eq!(mount(&text).1, r#"mounts[0].options: "tmpcopyup" is for a new tmpfs"#);
        }
        let cgroup = mount(r#"{"destination":"/x","type":"cgroup","options":["r0"]}"#).1;
        assert_eq!(cgroup, r#"mounts[0].options: "r0" is not an option of a mount of control groups"#);
    }

    #[test]
    fn a_configured_device_replaces_the_default_one_of_its_path() {
        let (plan, faults) = planned(
            r#"{"ociVersion":"1.0.0","linux":{"devices":[
                {"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":384,"uid":7}]}}"#,
        );
        assert_eq!(faults, "");
        assert_eq!(plan.devices.len(), DEFAULT_DEVICES.len());
        let null = plan.devices.iter().find(|device| device.path == Path::new("/dev/null")).unwrap();
        assert_eq!((null.mode, null.uid), (0o600, 7));
    }

    #[test]
    fn wrong_devices_and_paths_are_faults() {
        let (_, faults) = planned(
            r#"{"ociVersion":"1.0.0","linux":{"devices":[{"path":"/dev/x","type":"a"},{"path":"dev/y","type":"c"},
                {"path":"/dev/z","type":"b","major":-1,"minor":3}],"maskedPaths":["proc"],"rootfsPropagation":"loose"}}"#,
        );
        for expected in [
            r#"linux.devices[0].type: "a""#,
            r#"linux.devices[1].path: "dev/y""#,
            "linux.devices[2].major: -1",
            r#"linux.maskedPaths[0]: "proc""#,
            r#"linux.rootfsPropagation: "loose""#,
        ] {
            assert!(faults.contains(expected), "{expected} in {faults}");
        }
    }
}
