//! Network devices of the host's that become the container's (config-linux.md, "Network Devices").
//!
//! A device that leaves a network namespace goes down and loses its addresses; those that the specification wants kept are
//! given to it again. Once the container is there its devices are its own: with its network namespace the kernel takes
//! virtual ones away and gives physical ones back. Until then they are the host's to have back.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::LinuxNetDevice;
use serde::Serialize;

use super::{Namespace, NamespacesPlan};
use crate::error::{Context, Error, Faults, Result};
use crate::host::procfs;
use crate::sys::netlink::{Address, Link, Netlink};
use crate::sys::process::capabilities;

const CAP_NET_ADMIN: u64 = 1 << 12;

/// A device that becomes the container's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetDevice {
    /// Its name on the host.
    pub host: String,
    /// Its name inside; it may have one `%d`, which the kernel replaces by the first number that makes a new name.
    pub inside: String,
}

impl NetDevice {
    /// Its place in config.json.
    fn at(&self) -> String {
        if self.host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !self.host.is_empty() {
            format!("linux.netDevices.{}", self.host)
        } else {
            format!("linux.netDevices[{:?}]", self.host)
        }
    }
}

/// Decides on `linux.netDevices`, in the order of the names.
pub(super) fn plan(
    devices: Option<&HashMap<String, LinuxNetDevice>>,
    plan: &NamespacesPlan,
    faults: &mut Faults,
) -> Vec<NetDevice> {
    let name_inside = |name: &String, device: &LinuxNetDevice| {
        device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| name.clone())
    };
    let mut planned: Vec<NetDevice> = devices
        .into_iter()
        .flatten()
        .map(|(host, device)| NetDevice { host: host.clone(), inside: name_inside(host, device) })
        .collect();
    planned.sort_by(|one, other| one.host.cmp(&other.host));
    if !planned.is_empty() && !plan.has(Namespace::Network) {
        faults.add("linux.netDevices", "devices need a network namespace in linux.namespaces");
    }
    let mut names = HashSet::new();
    for device in &planned {
        let at = device.at();
        if device.host == "lo" || !is_name(&device.host, false) {
            faults.add(at, "is not the name of a network device that can be moved");
            continue;
        }
        if !is_name(&device.inside, true) {
            let why = "is not a name for a network device: 1 to 15 bytes, no space, slash or colon, and at most one %d";
            faults.add(at + ".name", format_args!("{:?} {why}", device.inside));
        } else if device.inside == "lo" {
            faults.add(at + ".name", "\"lo\" is the name of the container's loopback device");
        } else if !device.inside.contains('%') && !names.insert(&device.inside) {
            faults.add(at + ".name", format_args!("{:?} is the name of two devices", device.inside));
        }
    }
    planned
}

/// Whether the kernel would take this as a device's name, or as a pattern of one (`dev_valid_name`, `__dev_alloc_name`).
fn is_name(name: &str, pattern: bool) -> bool {
    let plain = match name.split_once('%') {
        Some((_, after)) => pattern && after.strip_prefix('d').is_some_and(|rest| !rest.contains('%')),
        None => true,
    };
    let space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b || byte == 0xa0;
    plain
        && !matches!(name, "" | "." | "..")
        && name.len() < libc::IFNAMSIZ
        && !name.bytes().any(|byte| space(byte) || matches!(byte, b'/' | b':' | 0))
}

/// A device as it was on the host.
#[derive(Debug)]
struct Found {
    device: NetDevice,
    link: Link,
    addresses: Vec<Address>,
}

/// The devices of a container that is being made: found, and then moved.
#[derive(Debug)]
pub struct NetDevices {
    host: Netlink,
    /// procrt's own network namespace.
    own: OwnedFd,
    found: Vec<Found>,
    /// The network namespace that the container joins, where it makes none.
    joined: Option<OwnedFd>,
    /// The devices in the container's network namespace.
    inside: Option<Netlink>,
    /// What has been moved: its place in `found`, and its number inside.
    moved: Vec<(usize, u32)>,
}

impl NetDevices {
    /// Finds the devices that `plan` wants moved, and what speaks against it; `joined` is the network namespace that is
    /// joined, where none is made. Nothing is changed.
    ///
    /// # Errors
    /// Names the device that is not there, that cannot be moved, or whose name is in use.
    pub fn find(plan: &NamespacesPlan, joined: Option<BorrowedFd>) -> Result<Option<Self>> {
        if plan.net_devices.is_empty() {
            return Ok(None);
        }
        if capabilities().context(|| "read the capabilities")?.effective & CAP_NET_ADMIN == 0 {
            return Err(Error::unsupported(
                "linux.netDevices: moving a device takes CAP_NET_ADMIN, which procrt lacks",
            ));
        }
        let own = procfs::open(procfs::handle()?.as_fd(), "self/ns/net", OFlag::O_RDONLY)
            .context(|| "open procrt's own network namespace")?;
        let mut host = Netlink::open().context(|| "ask for network devices")?;
        let mut found = Vec::with_capacity(plan.net_devices.len());
        for device in &plan.net_devices {
            let link = host.link_named(&device.host).context(|| device.at())?;
            if link.immutable {
                return Err(Error::config(format!("{}: this device cannot leave its network namespace", device.at())));
            }
            let addresses = host.addresses(link.index).context(|| format!("{}: list its addresses", device.at()))?;
            found.push(Found { device: device.clone(), link, addresses });
        }
        let joined = joined.map(|fd| fd.try_clone_to_owned()).transpose()?;
        let devices = Self { host, own, found, joined, inside: None, moved: Vec::new() };
        if let Some(joined) = &devices.joined {
            let links =
                devices.open_inside(joined.as_fd())?.links().context(|| "list the container's network devices")?;
            check_names(&devices.found, &links)?;
        }
        Ok(Some(devices))
    }

    /// Moves the devices into the network namespace that process `pid` was born in, or that it joins; gives each its name and
    /// addresses there, and brings it up. `proc` is the host's procfs. Of a process that has ended nothing is done: whoever
    /// waits for it learns why.
    ///
    /// # Errors
    /// Names the device and what failed; [`NetDevices::give_back`] is then for the caller to do.
    pub fn move_to(&mut self, pid: i32, proc: BorrowedFd) -> Result<()> {
        let made;
        let namespace = match &self.joined {
            Some(joined) => joined.as_fd(),
            None => match procfs::open(proc, &format!("{pid}/ns/net"), OFlag::O_RDONLY) {
                Ok(namespace) => {
                    made = namespace;
                    made.as_fd()
                }
                Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(()),
                Err(error) => return Err(error.context("open the container's network namespace")),
            },
        };
        let opened = self.open_inside(namespace)?;
        let inside = self.inside.insert(opened);
        let links = inside.links().context(|| "list the container's network devices")?;
        check_names(&self.found, &links)?;
        let mut numbers: HashSet<u32> = links.iter().map(|link| link.index).collect();
        for (place, Found { device, link, addresses }) in self.found.iter().enumerate() {
            // Its number is decided here, so that it can be found again whatever it is called.
            let next = numbers.iter().max().map_or(1, |number| number + 1);
            let number = if numbers.contains(&link.index) { next } else { link.index };
            numbers.insert(number);
            let moved = self.host.move_link(link.index, namespace, number, &device.inside);
            // It may be there though its name was refused.
            let Ok(there) = inside.link(number) else {
                let at = device.at();
                moved.context(|| format!("{at}: move it into the container's network namespace"))?;
                return Err(Error::system(format!("{at}: it is not in the container's network namespace")));
            };
            self.moved.push((place, number));
            moved.context(|| format!("{}.name: rename it to {:?}", device.at(), device.inside))?;
            for address in addresses.iter().filter(|address| address.is_permanent_and_global()) {
                inside
                    .add_address(number, address, &link.name, &there.name)
                    .context(|| format!("{}: keep its addresses", device.at()))?;
            }
            inside.bring_up(number).context(|| format!("{}: bring it up", device.at()))?;
        }
        Ok(())
    }

    /// Gives the host back what was moved, each device as it was: name, number, addresses, up, and part of what it was part
    /// of. Routes are not restored. What fails is a warning.
    pub fn give_back(&mut self) {
        for (place, number) in self.moved.drain(..).rev().collect::<Vec<_>>() {
            if let Err(error) = self.give_one_back(place, number) {
                log::warn!("{}: give it back to the host: {error}", self.found[place].device.at());
            }
        }
    }

    fn give_one_back(&mut self, place: usize, number: u32) -> Result<()> {
        let Found { link, addresses, .. } = &self.found[place];
        let Some(inside) = &mut self.inside else { return Ok(()) };
        inside.move_link(number, self.own.as_fd(), link.index, &link.name)?;
        if let Some(master) = link.master {
            self.host.set_master(link.index, master).context(|| format!("give it to device {master}"))?;
        }
        for address in addresses.iter().filter(|address| !address.is_kernels()) {
            match self.host.add_address(link.index, address, &link.name, &link.name) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno).context(|| "restore its addresses"),
            }
        }
        if link.up {
            self.host.bring_up(link.index).context(|| "bring it up")?;
        }
        Ok(())
    }

    /// Opens a socket to the devices of another network namespace: it stays there, this process does not.
    fn open_inside(&self, namespace: BorrowedFd) -> Result<Netlink> {
        setns(namespace, CloneFlags::CLONE_NEWNET).context(|| "enter the container's network namespace")?;
        let opened = Netlink::open();
        setns(&self.own, CloneFlags::CLONE_NEWNET).context(|| "return to procrt's own network namespace")?;
        opened.context(|| "ask for the container's network devices")
    }
}

/// Sees to it that none of the names is in use inside, where there are `links`.
fn check_names(found: &[Found], links: &[Link]) -> Result<()> {
    match found.iter().find(|found| links.iter().any(|link| link.name == found.device.inside)) {
        None => Ok(()),
        Some(Found { device, .. }) => Err(Error::config(format!(
            "{}.name: {:?} is in use in the container's network namespace",
            device.at(),
            device.inside
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(devices: &str, new: &[Namespace]) -> (Vec<NetDevice>, String) {
        let mut faults = Faults::default();
        let namespaces = NamespacesPlan { new: new.to_vec(), ..NamespacesPlan::default() };
        let plan = plan(Some(&serde_json::from_str(devices).unwrap()), &namespaces, &mut faults);
        (plan, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn a_device_keeps_its_name_unless_it_is_given_one() {
        let devices = r#"{"eth1": {"name": "net%d"}, "eth0": {}, "eth2": {"name": ""}, "eth3": {"name": "net%d"}}"#;
        let (plan, faults) = planned(devices, &[Namespace::Network]);
        let names: Vec<_> = plan.iter().map(|device| (device.host.as_str(), device.inside.as_str())).collect();
        assert_eq!(names, [("eth0", "eth0"), ("eth1", "net%d"), ("eth2", "eth2"), ("eth3", "net%d")]);
        assert_eq!(faults, "");
    }

    #[test]
    fn devices_need_a_network_namespace_and_names_that_can_be() {
        let (_, faults) = planned(r#"{"eth0": {}}"#, &[]);
        assert_eq!(faults, "linux.netDevices: devices need a network namespace in linux.namespaces");
        assert_eq!(planned("{}", &[]), (Vec::new(), String::new()));
        for name in ["", "lo", ".", "..", "a/b", "a b", "a:b", "a\tb", "a\0b", "sixteen-letters-", "net%d"] {
            let (_, faults) = planned(&json!({name: {}}).to_string(), &[Namespace::Network]);
            assert!(faults.ends_with(": is not the name of a network device that can be moved"), "{name}: {faults}");
        }
        for name in ["..", "a/b", "%s", "%", "%d%d", "a%", "fifteen-bytes-%d", "à"] {
            let (_, faults) = planned(&json!({"eth0": {"name": name}}).to_string(), &[Namespace::Network]);
            let expected = format!("linux.netDevices.eth0.name: {name:?} is not a name for a network device: ");
            assert!(faults.starts_with(&expected), "{name}: {faults}");
        }
        for name in ["a", "fifteen-letters", "eth0.1", "%d", "a%db", "é"] {
            let (_, faults) = planned(&json!({"eth0": {"name": name}}).to_string(), &[Namespace::Network]);
            assert_eq!(faults, "", "{name}");
        }
    }

    #[test]
    fn two_devices_have_two_names() {
        let (_, faults) =
            planned(r#"{"eth0": {"name": "eth1"}, "eth1": {}, "eth2": {"name": "lo"}}"#, &[Namespace::Network]);
        assert_eq!(
            faults,
            r#"linux.netDevices.eth1.name: "eth1" is the name of two devices; linux.netDevices.eth2.name: "lo" is the name of the container's loopback device"#
        );
    }
}
