//! Network devices and their addresses, asked for and changed by rtnetlink(7).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// What the kernel answers is in pieces of at most this size.
const LARGEST: usize = 32 * 1024;

/// How often a list is asked for again that has changed while it was given.
const TRIES: usize = 16;

// linux/netlink.h and linux/rtnetlink.h, in the types of the messages' fields.
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_MULTI: u16 = 0x2;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;

// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NEW_IFINDEX: u16 = 49; // Linux 5.13
const IFLA_NETNS_IMMUTABLE: u16 = 67; // Linux 6.14

// linux/if_addr.h
const IFA_LABEL: u16 = 3;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11; // Linux 5.18
const IFA_F_PERMANENT: u32 = 0x80;
/// Those that are somebody's wish: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN. All others say how the
/// kernel is doing with the address.
const IFA_F_WISHES: u32 = 0x2 | 0x10 | 0x100 | 0x200 | 0x400;
/// `IFAPROT_KERNEL_*`: the kernel has made the address by itself, and does so again.
const KERNEL_PROTOCOLS: std::ops::RangeInclusive<u8> = 1..=3;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// It is up.
    pub up: bool,
    /// The number of the device, such as a bridge, that it belongs to.
    pub master: Option<u32>,
    /// It cannot leave its network namespace, as far as the kernel says so (Linux 6.14).
    pub immutable: bool,
}

/// An address of a network device, with all that the kernel has said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    scope: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Whether it has no end (`IFA_F_PERMANENT`) and reaches everywhere (`RT_SCOPE_UNIVERSE`).
    pub fn is_permanent_and_global(&self) -> bool {
        self.flags & IFA_F_PERMANENT != 0 && self.scope == 0
    }

    /// Whether the kernel has made it by itself (Linux 5.18).
    pub fn is_kernels(&self) -> bool {
        let mut protocols = self.attributes.iter().filter(|(kind, _)| *kind == IFA_PROTO);
        protocols.any(|(_, value)| value.first().is_some_and(|protocol| KERNEL_PROTOCOLS.contains(protocol)))
    }

    /// Its label for a device that was renamed from `old` to `new`; nothing for the device's name alone, which is the
    /// kernel's own choice, and where it would be too long.
    fn label(&self, old: &str, new: &str) -> Option<String> {
        let (_, label) = self.attributes.iter().find(|(kind, _)| *kind == IFA_LABEL)?;
        let label = text(label);
        let label = format!("{new}{}", label.strip_prefix(old).filter(|rest| rest.starts_with(':'))?);
        (label.len() < libc::IFNAMSIZ).then_some(label)
    }
}

/// A socket to the devices of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one to the devices of this process's network namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> Result<Self, Errno> {
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The device of that name.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn link_named(&mut self, name: &str) -> Result<Link, Errno> {
        let message = Message::link(libc::RTM_GETLINK, 0, 0, 0).attribute(IFLA_IFNAME, &c_bytes(name));
        self.ask(message, 0)?.iter().find_map(|answer| link(answer)).ok_or(Errno::ENODEV)
    }

    /// The device of that number.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn link(&mut self, index: u32) -> Result<Link, Errno> {
        let answers = self.ask(Message::link(libc::RTM_GETLINK, index, 0, 0), 0)?;
        answers.iter().find_map(|answer| link(answer)).ok_or(Errno::ENODEV)
    }

    /// All devices.
    ///
    /// # Errors
    /// As netlink(7).
    pub fn links(&mut self) -> Result<Vec<Link>, Errno> {
        let answers = self.list(&Message::link(libc::RTM_GETLINK, 0, 0, 0))?;
        Ok(answers.iter().filter_map(|answer| link(answer)).collect())
    }

    /// The addresses of the device of that number, in the order in which they have to be added to be as they are.
    ///
    /// # Errors
    /// As netlink(7).
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>, Errno> {
        let answers = self.list(&Message::new(libc::RTM_GETADDR, &[0; ADDRESS_HEADER]))?;
        Ok(answers.iter().filter_map(|answer| address(answer, index)).collect())
    }

    /// Moves a device into another network namespace, where it has the number `new_index`, and renames it there: `name` may
    /// have a `%d`, which the kernel replaces by the first number that makes a new name. The device is down then, and its
    /// addresses are gone.
    ///
    /// # Errors
    /// `EINVAL` for a device that cannot be moved, `EEXIST` where its name is in use there, `EBUSY` where its number is,
    /// `EPERM` without `CAP_NET_ADMIN` over both. It may have been moved even so, if it is the name that was refused.
    pub fn move_link(&mut self, index: u32, to: BorrowedFd, new_index: u32, name: &str) -> Result<(), Errno> {
        let message = Message::link(libc::RTM_SETLINK, index, 0, 0)
            .attribute(IFLA_NET_NS_FD, &to.as_raw_fd().to_ne_bytes())
            .attribute(IFLA_NEW_IFINDEX, &new_index.to_ne_bytes())
            .attribute(IFLA_IFNAME, &c_bytes(name));
        self.ask(message, NLM_F_ACK).map(drop)
    }

    /// Brings a device up.
    ///
    /// # Errors
    /// As the device's driver has it.
    pub fn bring_up(&mut self, index: u32) -> Result<(), Errno> {
        let up = libc::IFF_UP as u32;
        self.ask(Message::link(libc::RTM_SETLINK, index, up, up), NLM_F_ACK).map(drop)
    }

    /// Gives a device to the device `master`.
    ///
    /// # Errors
    /// As that has it.
    pub fn set_master(&mut self, index: u32, master: u32) -> Result<(), Errno> {
        let message = Message::link(libc::RTM_SETLINK, index, 0, 0).attribute(IFLA_MASTER, &master.to_ne_bytes());
        self.ask(message, NLM_F_ACK).map(drop)
    }

    /// Gives the device of that number an address that it had as `old` and gets as `new`, two names.
    ///
    /// # Errors
    /// `EEXIST` if it has it; `EACCES` for one of IPv6 where that is switched off.
    pub fn add_address(&mut self, index: u32, address: &Address, old: &str, new: &str) -> Result<(), Errno> {
        let flags = address.flags & IFA_F_WISHES;
        let mut fixed = [address.family, address.prefix, flags as u8, address.scope, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(libc::RTM_NEWADDR, &fixed).attribute(IFA_FLAGS, &flags.to_ne_bytes());
        if let Some(label) = address.label(old, new) {
            message = message.attribute(IFA_LABEL, &c_bytes(&label));
        }
        for (kind, value) in address.attributes.iter().filter(|(kind, _)| !matches!(*kind, IFA_FLAGS | IFA_LABEL)) {
            message = message.attribute(*kind, value);
        }
        self.ask(message, NLM_F_ACK | NLM_F_CREATE_EXCL).map(drop)
    }

    /// Asks for a list, again where it has changed meanwhile.
    fn list(&mut self, message: &Message) -> Result<Vec<Vec<u8>>, Errno> {
        for _ in 1..TRIES {
            match self.ask(message.clone(), NLM_F_DUMP) {
                Err(Errno::EINTR) => {}
                answer => return answer,
            }
        }
        self.ask(message.clone(), NLM_F_DUMP)
    }

    /// Sends a message and gives the bodies of all answers to it.
    fn ask(&mut self, message: Message, flags: u16) -> Result<Vec<Vec<u8>>, Errno> {
        self.sequence += 1;
        let message = message.finished(flags | NLM_F_REQUEST, self.sequence);
        while let Err(errno) = send(self.socket.as_raw_fd(), &message, MsgFlags::empty()) {
            if errno != Errno::EINTR {
                return Err(errno);
            }
        }
        let mut answers = Vec::new();
        let mut changed = false;
        let mut buffer = vec![0_u8; LARGEST];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                answer => answer?,
            };
            let mut rest = buffer.get(..length).ok_or(Errno::EMSGSIZE)?;
            while let Some((kind, flags, sequence, body)) = next_message(&mut rest) {
                if sequence != self.sequence {
                    continue;
                }
                changed |= flags & NLM_F_DUMP_INTR != 0;
                match kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return match code {
                            0 if changed => Err(Errno::EINTR),
                            0 => Ok(answers),
                            code => Err(Errno::from_raw(-code)),
                        };
                    }
                    _ => answers.push(body.to_vec()),
                }
                if flags & NLM_F_MULTI == 0 {
                    return Ok(answers);
                }
            }
        }
    }
}

/// A message that is being put together.
#[derive(Debug, Clone)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self(bytes)
    }

    /// About the device of that number, of whose flags (`IFF_*`) those of `change` are to be as in `flags`.
    fn link(kind: u16, index: u32, flags: u32, change: u32) -> Self {
        let mut fixed = [0; LINK_HEADER];
        for (place, value) in [(4, index), (8, flags), (12, change)] {
            fixed[place..place + 4].copy_from_slice(&value.to_ne_bytes());
        }
        Self::new(kind, &fixed)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finished(mut self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// Takes the first message off `rest`: its type, flags, sequence number and body.
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<(u16, u16, u32, &'a [u8])> {
    let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
    let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((number16(message, 4), number16(message, 6), number32(message, 8), &message[HEADER..]))
}

/// The attributes that `rest` has, by type. The upper two bits of a type are flags.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header: [u8; 4] = *rest.first_chunk()?;
        let (length, kind) = (number16(&header, 0) as usize, number16(&header, 2));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

fn link(body: &[u8]) -> Option<Link> {
    let (fixed, rest) = body.split_at_checked(LINK_HEADER)?;
    let up = number32(fixed, 8) & libc::IFF_UP as u32 != 0;
    let mut link = Link { index: number32(fixed, 4), name: String::new(), up, master: None, immutable: false };
    for (kind, value) in attributes(rest) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MASTER if value.len() == 4 => link.master = Some(number32(value, 0)),
            IFLA_NETNS_IMMUTABLE => link.immutable = value.first().is_some_and(|value| *value != 0),
            _ => {}
        }
    }
    Some(link)
}

/// The address of `body`, if it is one of the device of that number.
fn address(body: &[u8], index: u32) -> Option<Address> {
    let (fixed, rest) = body.split_at_checked(ADDRESS_HEADER)?;
    if number32(fixed, 4) != index {
        return None;
    }
    let attributes: Vec<_> = attributes(rest).map(|(kind, value)| (kind, value.to_vec())).collect();
    let whole = attributes.iter().find(|(kind, value)| *kind == IFA_FLAGS && value.len() == 4);
    let flags = whole.map_or(u32::from(fixed[2]), |(_, value)| number32(value, 0));
    Some(Address { family: fixed[0], prefix: fixed[1], scope: fixed[3], flags, attributes })
}

fn number16(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn c_bytes(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found_by_name_by_number_and_in_the_list() {
        let mut netlink = Netlink::open().unwrap();
        let loopback = netlink.link_named("lo").unwrap();
        assert_eq!((loopback.name.as_str(), loopback.master), ("lo", None));
        assert_eq!(netlink.link(loopback.index).unwrap(), loopback);
        assert!(netlink.links().unwrap().contains(&loopback));
        assert_eq!(netlink.link_named("procrt-no-such"), Err(Errno::ENODEV));
        assert_eq!(netlink.link(u32::MAX / 2), Err(Errno::ENODEV));
        for address in netlink.addresses(loopback.index).unwrap() {
            assert!(!address.is_permanent_and_global(), "{address:?}");
        }
    }

    #[test]
    fn a_label_follows_the_devices_name() {
        let labelled = |label: &str| Address {
            family: 2,
            prefix: 24,
            scope: 0,
            flags: IFA_F_PERMANENT,
            attributes: vec![(IFA_LABEL, c_bytes(label))],
        };
        assert_eq!(labelled("eth0").label("eth0", "net1"), None);
        assert_eq!(labelled("eth0:1").label("eth0", "net1").as_deref(), Some("net1:1"));
        assert_eq!(labelled("eth0:1").label("eth0", "a-longer-name0"), None);
    }

    #[test]
    fn answers_that_are_cut_short_are_none() {
        for length in 0..LINK_HEADER {
            assert_eq!(link(&vec![0; length]), None);
        }
        assert_eq!(next_message(&mut &[9, 0, 0, 0, 1][..]), None);
        assert_eq!(attributes(&[8, 0, 3, 0, b'a']).count(), 0);
    }
}
