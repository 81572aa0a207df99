//! Namespaces: which are new, which are joined, how ids are mapped and clocks shifted, and what belongs to them
//! (host name, domain name, network devices, kernel parameters).

mod enter;
mod net_devices;
mod plan;
mod sysctl;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::host::id_mapping::IdMapping;
pub use enter::{
    ChildrenElsewhere, Handles, become_root, bring_up_loopback, enter_time, in_mount_namespace_of, join,
    join_for_children, join_those_of,
};
pub use net_devices::{NetDevice, NetDevices};
pub use plan::plan;
pub use sysctl::apply as apply_sysctl;

/// The namespaces of Linux, by the names that config.json has for them, with their `CLONE_NEW*` flags.
pub const NAMES: [(&str, Namespace); 8] = [
    ("cgroup", Namespace::Cgroup),
    ("ipc", Namespace::Ipc),
    ("mount", Namespace::Mount),
    ("network", Namespace::Network),
    ("pid", Namespace::Pid),
    ("time", Namespace::Time),
    ("user", Namespace::User),
    ("uts", Namespace::Uts),
];

/// A kind of namespace (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Namespace {
    Cgroup,
    Ipc,
    Mount,
    Network,
    Pid,
    Time,
    User,
    Uts,
}

impl Namespace {
    /// The `CLONE_NEW*` flag.
    pub const fn flag(self) -> u64 {
        (match self {
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Network => libc::CLONE_NEWNET,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Time => 0x80,
            Self::User => libc::CLONE_NEWUSER,
            Self::Uts => libc::CLONE_NEWUTS,
        }) as u64
    }

    /// The name in /proc/PID/ns.
    fn file(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Network => "net",
            kind => kind.name(),
        }
    }

    /// The name in config.json.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// A namespace that is joined rather than made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Join {
    /// Its kind.
    pub kind: Namespace,
    /// The file that refers to it (`/proc/PID/ns/…` or a bind mount of that).
    pub path: PathBuf,
    /// Its place in config.json, for messages.
    pub index: usize,
}

/// Everything about a container's namespaces.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NamespacesPlan {
    /// Namespaces to make.
    pub new: Vec<Namespace>,
    /// Namespaces to join.
    pub join: Vec<Join>,
    /// The map of user ids of a new user namespace.
    pub uid_mappings: Vec<IdMapping>,
    /// The map of group ids of a new user namespace.
    pub gid_mappings: Vec<IdMapping>,
    /// Lines of /proc/PID/timens_offsets: clock, seconds, nanoseconds.
    pub time_offsets: Vec<(&'static str, i64, u32)>,
    /// The host name.
    pub hostname: Option<String>,
    /// The NIS domain name.
    pub domainname: Option<String>,
    /// Network devices of the host's to move into the network namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<NetDevice>,
    /// Kernel parameters, as paths below /proc/sys with their values.
    pub sysctl: Vec<(String, String)>,
}

impl NamespacesPlan {
    /// Whether a namespace of `kind` is made.
    pub fn makes(&self, kind: Namespace) -> bool {
        self.new.contains(&kind)
    }

    /// Whether a namespace of `kind` is joined.
    pub fn joins(&self, kind: Namespace) -> bool {
        self.join.iter().any(|join| join.kind == kind)
    }

    /// Whether the container has a namespace of `kind` of its own, made or joined.
    pub fn has(&self, kind: Namespace) -> bool {
        self.makes(kind) || self.joins(kind)
    }

    /// Whether the container's mounts are new and in a user namespace: then they are made of copies that the kernel protects
    /// from that namespace's root, which may not change what the host has them restricted by (mount_namespaces(7),
    /// "Restrictions on mount namespaces").
    pub fn restricts_mounts(&self) -> bool {
        self.has(Namespace::User) && self.makes(Namespace::Mount)
    }

    /// Whether it takes an intermediate process to make the first one: its user namespace, which is joined, is to own what
    /// is made; or is made, and what is joined is not its to join.
    pub fn takes_intermediate(&self) -> bool {
        let joins_others = || self.join.iter().any(|join| join.kind != Namespace::Pid);
        self.joins(Namespace::User) || self.makes(Namespace::User) && joins_others()
    }

    /// The field of the configuration that changes what a namespace of `kind` holds for all in it, if one does.
    fn changes(&self, kind: Namespace) -> Option<&'static str> {
        if self.sysctl.iter().any(|(path, _)| sysctl::owner(path) == Some(kind)) {
            return Some("linux.sysctl");
        }
        if kind == Namespace::Network && !self.net_devices.is_empty() {
            return Some("linux.netDevices");
        }
        let names = [("hostname", &self.hostname), ("domainname", &self.domainname)];
        names.into_iter().find(|(_, name)| kind == Namespace::Uts && name.is_some()).map(|(field, _)| field)
    }

    /// The flags for clone3.
    ///
    /// A cgroup namespace's root is the cgroup of the process that makes it, and clone3 makes it before the child is in
    /// its own; a time namespace takes offsets only while nobody is in it. Both are made by the child itself.
    pub fn clone_flags(&self) -> u64 {
        let late = |kind: &Namespace| matches!(kind, Namespace::Cgroup | Namespace::Time);
        self.new.iter().filter(|kind| !late(kind)).fold(0, |flags, kind| flags | kind.flag())
    }

    /// The kinds that the container has of its own, made or joined.
    pub fn own(&self) -> Vec<Namespace> {
        self.join.iter().map(|join| join.kind).chain(self.new.iter().copied()).collect()
    }

    /// What will be done, in words.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.new.is_empty() {
            let names: Vec<_> = self.new.iter().map(|kind| kind.name()).collect();
            lines.push(format!("new namespaces: {}", names.join(", ")));
        }
        lines.extend(
            self.join.iter().map(|join| format!("join the {} namespace of {}", join.kind.name(), join.path.display())),
        );
        let shared: Vec<_> = NAMES.iter().filter(|(_, kind)| !self.has(*kind)).map(|(name, _)| *name).collect();
        if !shared.is_empty() {
            lines.push(format!("shared with the host: {}", shared.join(", ")));
        }
        for (what, mappings) in [("user", &self.uid_mappings), ("group", &self.gid_mappings)] {
            lines.extend(mappings.iter().map(|map| {
                format!("{what} ids {}+{} inside are {}+{} outside", map.container, map.size, map.host, map.size)
            }));
        }
        lines.extend(
            self.time_offsets
                .iter()
                .map(|(clock, secs, nanos)| format!("the {clock} clock is shifted by {secs} s {nanos} ns")),
        );
        lines.extend(self.hostname.iter().map(|name| format!("host name {name:?}")));
        lines.extend(self.domainname.iter().map(|name| format!("domain name {name:?}")));
        lines.extend(self.net_devices.iter().map(|device| match (&device.host, &device.inside) {
            (host, inside) if host == inside => format!("network device {host} is moved in"),
            (host, inside) => format!("network device {host} is moved in, as {inside}"),
        }));
        lines.extend(self.sysctl.iter().map(|(path, value)| format!("/proc/sys/{path} = {value:?}")));
        lines
    }
}
