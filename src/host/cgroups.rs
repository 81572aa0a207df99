//! The control group hierarchies of this machine, and a container's place in them.
//!
//! A host is *unified* (cgroup2 alone, mounted at `/sys/fs/cgroup`: its list of controllers tells), *hybrid* (version 1 hierarchies
//! beside a cgroup2 mount) or *legacy* (version 1 alone). Only mounts at or below `/sys/fs/cgroup` count.

// Errors show a path in quotes and with its control characters escaped.
#![allow(clippy::unnecessary_debug_formatting)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use serde::{Deserialize, Serialize};

use super::mounts::unescape;
use crate::error::{Context, Result};

/// Where control groups are mounted, by convention of every distribution and engine.
pub const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// The controllers that a version 1 hierarchy can carry; other words among its mount options are plain options.
const V1_CONTROLLERS: [&str; 14] = [
    "cpuset",
    "cpu",
    "cpuacct",
    "blkio",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "perf_event",
    "net_prio",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
];

/// How the machine's hierarchies are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Version 2 alone.
    Unified,
    /// Version 1 hierarchies, and version 2 beside them.
    Hybrid,
    /// Version 1 alone, or nothing at all.
    Legacy,
}

/// Which of the kernel's two interfaces a hierarchy speaks (cgroups(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One hierarchy of many, with the controllers it was mounted with.
    V1,
    /// The one hierarchy of cgroup2.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Version 1 or 2.
    pub version: Version,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Version 1: the controllers it was mounted with (`cpu`, `cpuacct`), or its name (`name=systemd`).
    /// Version 2: the controllers that its root has.
    pub controllers: Vec<String>,
    /// procrt's own cgroup, as seen from the mount point; only [`Hierarchies::with_own_paths`] fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_path: Option<PathBuf>,
}

impl Hierarchy {
    /// Whether `controller` is this hierarchy's.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// Whether this user may make cgroups below the one at `path`, and move own processes there: on version 2 that takes
    /// the list of processes of the one that both places are below (cgroups(7), "Delegation containment rules").
    fn may_make_below(&self, path: &Path) -> bool {
        let dir = ContainerCgroup { hierarchy: self.clone(), path: path.to_owned() }.dir();
        let may_write = |path: &Path| faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok();
        may_write(&dir) && (self.version == Version::V1 || may_write(&dir.join("cgroup.procs")))
    }
}

/// All hierarchies of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hierarchies {
    /// How they are laid out.
    pub layout: Layout,
    /// The hierarchies, in the order they were mounted.
    pub list: Vec<Hierarchy>,
    /// Whether a container that names no control group has one only where this user may make it; as long as the list, and
    /// filled in by [`Hierarchies::with_delegation`] and [`Hierarchies::without_any`] alone: the cgroup of each hierarchy, as seen from the mount point,
    /// below which the user may.
    #[serde(skip)]
    pub delegation: Option<Vec<Option<PathBuf>>>,
}

impl Hierarchies {
    /// These hierarchies, all of which containers are to have control groups in.
    pub fn new(layout: Layout, list: Vec<Hierarchy>) -> Self {
        Self { layout, list, delegation: None }
    }

    /// Looks at this machine: on a unified host one short file, else `/proc/self/mountinfo` once.
    ///
    /// # Errors
    /// `/sys/fs/cgroup` or `/proc/self/mountinfo` cannot be read.
    pub fn find() -> Result<Self> {
        if let Some(controllers) = v2_controllers(Path::new(MOUNT_POINT))? {
            let mount_point = MOUNT_POINT.into();
            let root = Hierarchy { version: Version::V2, mount_point, controllers, own_path: None };
            return Ok(Self::new(Layout::Unified, vec![root]));
        }
        let mut hierarchies = Self::from_mountinfo(&read("/proc/self/mountinfo", 16 << 10)?);
        if let Some(v2) = hierarchies.list.iter_mut().find(|h| h.version == Version::V2) {
            v2.controllers = v2_controllers(&v2.mount_point)?.unwrap_or_default();
        }
        Ok(hierarchies)
    }

    /// The same, with every hierarchy's `own_path` from `/proc/self/cgroup`; a relative `linux.cgroupsPath` needs it.
    ///
    /// # Errors
    /// `/proc/self/cgroup` or `/proc/self/mountinfo` cannot be read.
    pub fn with_own_paths(mut self) -> Result<Self> {
        let membership = read("/proc/self/cgroup", 1024)?;
        let mountinfo = read("/proc/self/mountinfo", 16 << 10)?;
        self.fill_own_paths(&membership, &mountinfo);
        Ok(self)
    }

    /// The same, with [`Hierarchies::delegation`]: this user may make cgroups where the directory of procrt's own is the
    /// user's to write to; on a unified host first beside it, since one that has processes hands down no controllers.
    ///
    /// # Errors
    /// As [`Hierarchies::with_own_paths`].
    pub fn with_delegation(self) -> Result<Self> {
        let known = self.list.iter().all(|hierarchy| hierarchy.own_path.is_some());
        let mut hierarchies = if known { self } else { self.with_own_paths()? };
        let unified = hierarchies.layout == Layout::Unified;
        let bases = hierarchies.list.iter().map(|hierarchy| {
            let own = hierarchy.own_path.as_deref()?;
            let beside = own.parent().filter(|_| unified);
            beside.into_iter().chain([own]).find(|base| hierarchy.may_make_below(base)).map(Path::to_owned)
        });
        hierarchies.delegation = Some(bases.collect());
        Ok(hierarchies)
    }

    /// The same, with [`Hierarchies::delegation`] as of a user who may make cgroups nowhere.
    ///
    /// # Errors
    /// As [`Hierarchies::with_own_paths`].
    pub fn without_any(self) -> Result<Self> {
        let delegation = Some(vec![None; self.list.len()]);
        Ok(Self { delegation, ..self.with_own_paths()? })
    }

    /// The hierarchy that has `controller`: a version 1 hierarchy before version 2, as the kernel has it in one only.
    pub fn with_controller(&self, controller: &str) -> Option<&Hierarchy> {
        self.list.iter().find(|hierarchy| hierarchy.has(controller))
    }

    /// Reads the hierarchies out of mountinfo (proc_pid_mountinfo(5)); the first mount of each wins.
    fn from_mountinfo(text: &str) -> Self {
        let mut seen = Vec::new();
        let mut list = Vec::new();
        for mount in text.lines().filter_map(Mount::parse) {
            if seen.contains(&mount.device) {
                continue;
            }
            let (version, controllers) = match mount.kind {
                "cgroup2" => (Version::V2, Vec::new()),
                _ => (Version::V1, mount.controllers()),
            };
            seen.push(mount.device);
            list.push(Hierarchy { version, mount_point: mount.point, controllers, own_path: None });
        }
        let layout =
            if list.iter().any(|h: &Hierarchy| h.version == Version::V2) { Layout::Hybrid } else { Layout::Legacy };
        Self::new(layout, list)
    }

    fn fill_own_paths(&mut self, membership: &str, mountinfo: &str) {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        for line in membership.lines() {
            // ID:CONTROLLERS:PATH; version 2 is "0::PATH".
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let hierarchy = self.list.iter_mut().find(|h| match h.version {
                Version::V2 => controllers.is_empty(),
                Version::V1 => !controllers.is_empty() && controllers.split(',').all(|name| h.has(name)),
            });
            let Some(hierarchy) = hierarchy else { continue };
            // Inside an engine's container the mount may show only a part of the hierarchy: its root is cut off.
            let root = mounts.iter().find(|m| m.point == hierarchy.mount_point).map_or(Path::new("/"), |m| &m.root);
            let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
            hierarchy.own_path = Some(Path::new("/").join(inside));
        }
    }
}

/// One line of mountinfo that is a control group's mount below `/sys/fs/cgroup`.
struct Mount<'a> {
    device: &'a str,
    root: PathBuf,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS [TAGS…] - TYPE SOURCE SUPER-OPTIONS
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let kind = right.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
        let options = right.nth(1)?;
        let mut left = left.split(' ').skip(2);
        let (device, root, point) = (left.next()?, unescape(left.next()?), unescape(left.next()?));
        point.starts_with(MOUNT_POINT).then_some(Self { device, root, point, kind, options })
    }

    fn controllers(&self) -> Vec<String> {
        let words = self.options.split(',');
        words.filter(|word| V1_CONTROLLERS.contains(word) || word.starts_with("name=")).map(str::to_owned).collect()
    }
}

/// Reads a file of procfs to its end, `expect` bytes at a time: `stat` does not tell its size.
fn read(path: &str, expect: usize) -> Result<String> {
    let mut file = File::open(path).context(|| format!("open {path}"))?;
    let mut buffer = vec![0; expect];
    let mut bytes = Vec::with_capacity(expect);
    loop {
        // These files end their reads at line ends, so that only an empty read is the end.
        match file.read(&mut buffer).context(|| format!("read {path}"))? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// The controllers that a version 2 cgroup has; nothing if `dir` is no such cgroup. The file is one short line, which the
/// kernel gives in one read.
fn v2_controllers(dir: &Path) -> Result<Option<Vec<String>>> {
    let path = dir.join("cgroup.controllers");
    let mut buffer = [0; 512];
    let count = match File::open(&path).and_then(|mut file| file.read(&mut buffer)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        count => count.context(|| format!("read {path:?}"))?,
    };
    Ok(Some(String::from_utf8_lossy(&buffer[..count]).split_whitespace().map(str::to_owned).collect()))
}

/// A container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerCgroup {
    /// The hierarchy.
    pub hierarchy: Hierarchy,
    /// The cgroup as an absolute path inside the hierarchy, such as `/procrt/ID`.
    pub path: PathBuf,
}

impl ContainerCgroup {
    /// The cgroup's directory on the host.
    pub fn dir(&self) -> PathBuf {
        self.hierarchy.mount_point.join(self.path.strip_prefix("/").unwrap_or(&self.path))
    }
}

/// A container's cgroups, one a hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerCgroups(pub Vec<ContainerCgroup>);

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
23 1 0:21 / /sys rw - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:35 /docker/a\\040b /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory,release_agent=/x
34 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
35 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
36 31 0:29 / /sys/fs/cgroup/again rw,relatime - cgroup cgroup rw,cpu,cpuacct
37 31 0:39 / /mnt/pids rw,relatime - cgroup cgroup rw,pids
";

    #[test]
    fn a_hybrid_machine_is_read_from_mountinfo() {
        let found = Hierarchies::from_mountinfo(HYBRID);
        assert_eq!(found.layout, Layout::Hybrid);
        let words: Vec<String> = found
            .list
            .iter()
            .map(|h| format!("{:?} {} {}", h.version, h.mount_point.display(), h.controllers.join(",")))
            .collect();
        assert_eq!(
            words,
            [
                "V1 /sys/fs/cgroup/cpu,cpuacct cpu,cpuacct",
                "V1 /sys/fs/cgroup/memory memory",
                "V1 /sys/fs/cgroup/systemd name=systemd",
                "V2 /sys/fs/cgroup/unified "
            ]
        );
        assert_eq!(found.with_controller("cpuacct").unwrap().mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(found.with_controller("pids").is_none());
    }

    #[test]
    fn own_paths_are_seen_from_the_mount_point() {
        let mut found = Hierarchies::from_mountinfo(HYBRID);
        let membership = "3:cpu,cpuacct:/me\n2:memory:/docker/a b/sub\n1:name=systemd:/\n0::/u/v\n";
        found.fill_own_paths(membership, HYBRID);
        let own: Vec<_> = found.list.iter().map(|h| h.own_path.as_deref().unwrap().to_str().unwrap()).collect();
        assert_eq!(own, ["/me", "/sub", "/", "/u/v"]);
    }

    #[test]
    fn this_machine_has_hierarchies() {
        let found = Hierarchies::find().unwrap().with_own_paths().unwrap();
        assert!(!found.list.is_empty());
        assert!(found.list.iter().all(|h| h.own_path.is_some()), "{found:?}");
        assert_eq!(found.layout == Layout::Unified, found.list[0].mount_point == Path::new(MOUNT_POINT));
    }

    #[test]
    fn a_container_cgroup_knows_its_directory() {
        let hierarchy = Hierarchies::from_mountinfo(HYBRID).list.remove(1);
        let cgroup = ContainerCgroup { hierarchy, path: "/procrt/a".into() };
        assert_eq!(cgroup.dir(), Path::new("/sys/fs/cgroup/memory/procrt/a"));
        let text = serde_json::to_string(&ContainerCgroups(vec![cgroup.clone()])).unwrap();
        assert_eq!(serde_json::from_str::<ContainerCgroups>(&text).unwrap().0, [cgroup]);
    }
}
