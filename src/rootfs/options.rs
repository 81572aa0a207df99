//! Mount options: what each word of `mounts[].options` means to the mount API.

use nix::mount::MsFlags;
use serde::Serialize;

use crate::sys::mount::attr;

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing: it is the default, or says what a mount API mount always does.
    Nothing,
    /// Sets an attribute of the mount.
    Set(u64),
    /// Clears an attribute of the mount.
    Clear(u64),
    /// Chooses how access times are kept.
    Atime(u64),
    /// The same three for the mount and all below it.
    SetAll(u64),
    ClearAll(u64),
    AtimeAll(u64),
    /// A parameter of the superblock that every file system takes.
    Superblock(&'static str),
    /// A copy of an existing mount; with everything below it if `true`.
    Bind(bool),
    /// How mounts and unmounts spread; to all below it if `true`.
    Propagation(u64, bool),
    Remount,
    CopyUp,
    /// Maps ids; of all below it too if `true`.
    IdMap(bool),
}

use Effect::{
    Atime, AtimeAll, Bind, Clear, ClearAll, CopyUp, IdMap, Nothing, Propagation, Remount, Set, SetAll, Superblock,
};

const PRIVATE: u64 = MsFlags::MS_PRIVATE.bits();
const SHARED: u64 = MsFlags::MS_SHARED.bits();
const SLAVE: u64 = MsFlags::MS_SLAVE.bits();
const UNBINDABLE: u64 = MsFlags::MS_UNBINDABLE.bits();

/// Every option that is not the file system's own (config.md, "Linux mount options"), sorted by name.
const OPTIONS: [(&str, Effect); 63] = [
    ("async", Superblock("async")),
    ("atime", Atime(attr::RELATIME)),
    ("bind", Bind(false)),
    ("defaults", Nothing),
    ("dev", Clear(attr::NODEV)),
    ("diratime", Clear(attr::NODIRATIME)),
    ("dirsync", Superblock("dirsync")),
    ("exec", Clear(attr::NOEXEC)),
    ("idmap", IdMap(false)),
    ("iversion", Superblock("iversion")),
    ("lazytime", Superblock("lazytime")),
    ("loud", Nothing),
    ("mand", Superblock("mand")),
    ("noatime", Atime(attr::NOATIME)),
    ("nodev", Set(attr::NODEV)),
    ("nodiratime", Set(attr::NODIRATIME)),
    ("noexec", Set(attr::NOEXEC)),
    ("noiversion", Nothing),
    ("nolazytime", Superblock("nolazytime")),
    ("nomand", Superblock("nomand")),
    ("norelatime", Atime(attr::RELATIME)),
    ("nostrictatime", Atime(attr::RELATIME)),
    ("nosuid", Set(attr::NOSUID)),
    ("nosymfollow", Set(attr::NOSYMFOLLOW)),
    ("private", Propagation(PRIVATE, false)),
    ("ratime", AtimeAll(attr::RELATIME)),
    ("rbind", Bind(true)),
    ("rdev", ClearAll(attr::NODEV)),
    ("rdiratime", ClearAll(attr::NODIRATIME)),
    ("relatime", Atime(attr::RELATIME)),
    ("remount", Remount),
    ("rexec", ClearAll(attr::NOEXEC)),
    ("ridmap", IdMap(true)),
    ("rnoatime", AtimeAll(attr::NOATIME)),
    ("rnodev", SetAll(attr::NODEV)),
    ("rnodiratime", SetAll(attr::NODIRATIME)),
    ("rnoexec", SetAll(attr::NOEXEC)),
    ("rnorelatime", AtimeAll(attr::RELATIME)),
    ("rnostrictatime", AtimeAll(attr::RELATIME)),
    ("rnosuid", SetAll(attr::NOSUID)),
    ("rnosymfollow", SetAll(attr::NOSYMFOLLOW)),
    ("ro", Set(attr::RDONLY)),
    ("rprivate", Propagation(PRIVATE, true)),
    ("rrelatime", AtimeAll(attr::RELATIME)),
    ("rro", SetAll(attr::RDONLY)),
    ("rrw", ClearAll(attr::RDONLY)),
    ("rshared", Propagation(SHARED, true)),
    ("rslave", Propagation(SLAVE, true)),
    ("rstrictatime", AtimeAll(attr::STRICTATIME)),
    ("rsuid", ClearAll(attr::NOSUID)),
    ("rsymfollow", ClearAll(attr::NOSYMFOLLOW)),
    ("runbindable", Propagation(UNBINDABLE, true)),
    ("rw", Clear(attr::RDONLY)),
    ("shared", Propagation(SHARED, false)),
    ("silent", Superblock("silent")),
    ("slave", Propagation(SLAVE, false)),
    ("strictatime", Atime(attr::STRICTATIME)),
    ("suid", Clear(attr::NOSUID)),
    ("symfollow", Clear(attr::NOSYMFOLLOW)),
    ("sync", Superblock("sync")),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(UNBINDABLE, false)),
    ("user", Nothing),
];

/// The options that procrt gives meaning to.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// Whether mounts' ids can be mapped.
pub fn maps_ids() -> bool {
    OPTIONS.iter().any(|(_, effect)| matches!(effect, IdMap(_)))
}

/// The propagation types of `linux.rootfsPropagation`, and of mount options.
pub fn propagation(name: &str) -> Option<(u64, bool)> {
    match OPTIONS.binary_search_by(|(option, _)| option.cmp(&name)).map(|index| OPTIONS[index].1) {
        Ok(Propagation(flag, recursive)) => Some((flag, recursive)),
        _ => None,
    }
}

/// Attributes to change on a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
}

impl Attributes {
    fn set(&mut self, flag: u64) {
        self.set |= flag;
        self.clear &= !flag;
    }

    fn clear(&mut self, flag: u64) {
        self.clear |= flag;
        self.set &= !flag;
    }

    fn atime(&mut self, mode: u64) {
        self.set = self.set & !attr::ATIME | mode;
        self.clear |= attr::ATIME;
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// A mount's options, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// For the mount itself.
    pub attributes: Attributes,
    /// For the mount and all below it.
    pub recursive: Attributes,
    /// `bind` or `rbind`.
    pub bind: Option<bool>,
    /// Propagation changes, in order.
    pub propagation: Vec<(u64, bool)>,
    /// `remount`.
    pub remount: bool,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// `idmap`, or `ridmap` if `true`.
    pub id_map: Option<bool>,
    /// The file system's own parameters, and those that every file system takes.
    pub data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Reads the words of `mounts[].options`; what is not known is the file system's.
    pub fn read(words: &[String]) -> Self {
        let mut options = Self::default();
        // One word may hold several, separated by commas, as mount(8) takes them.
        for word in words.iter().flat_map(|word| word.split(',')).filter(|word| !word.is_empty()) {
            let Ok(index) = OPTIONS.binary_search_by(|(name, _)| (*name).cmp(word)) else {
                let (key, value) =
                    word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value.to_owned())));
                options.data.push((key.to_owned(), value));
                continue;
            };
            match OPTIONS[index].1 {
                Nothing => {}
                Set(flag) => options.attributes.set(flag),
                Clear(flag) => options.attributes.clear(flag),
                Atime(mode) => options.attributes.atime(mode),
                SetAll(flag) => options.recursive.set(flag),
                ClearAll(flag) => options.recursive.clear(flag),
                AtimeAll(mode) => options.recursive.atime(mode),
                Superblock(name) => options.data.push((name.to_owned(), None)),
                Bind(recursive) => options.bind = Some(recursive),
                Propagation(flag, recursive) => options.propagation.push((flag, recursive)),
                Remount => options.remount = true,
                CopyUp => options.copy_up = true,
                IdMap(recursive) => options.id_map = Some(recursive),
            }
        }
        options
    }
}

/// The attributes in the words of mount(8), for people.
pub fn describe(attributes: Attributes) -> Vec<&'static str> {
    let pairs = [
        (attr::RDONLY, "ro", "rw"),
        (attr::NOSUID, "nosuid", "suid"),
        (attr::NODEV, "nodev", "dev"),
        (attr::NOEXEC, "noexec", "exec"),
        (attr::NODIRATIME, "nodiratime", "diratime"),
        (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];
    let mut words = Vec::new();
    for (flag, set, clear) in pairs {
        if attributes.set & flag != 0 {
            words.push(set);
        } else if attributes.clear & flag != 0 {
            words.push(clear);
        }
    }
    if attributes.clear & attr::ATIME != 0 || attributes.set & attr::ATIME != 0 {
        words.push(match attributes.set & attr::ATIME {
            attr::NOATIME => "noatime",
            attr::STRICTATIME => "strictatime",
            _ => "relatime",
        });
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Options {
        Options::read(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_table_is_sorted_for_its_binary_search() {
        assert!(OPTIONS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn the_last_of_two_contrary_options_holds() {
        assert_eq!(read(&["ro", "rw"]).attributes, Attributes { set: 0, clear: attr::RDONLY });
        assert_eq!(read(&["rw", "ro"]).attributes, Attributes { set: attr::RDONLY, clear: 0 });
        let atime = read(&["noatime", "strictatime"]).attributes;
        assert_eq!(atime, Attributes { set: attr::STRICTATIME, clear: attr::ATIME });
        assert_eq!(read(&["noatime", "relatime"]).attributes, Attributes { set: 0, clear: attr::ATIME });
    }

    #[test]
    fn recursive_options_are_kept_apart() {
        let options = read(&["rbind", "rro", "nosuid"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.recursive, Attributes { set: attr::RDONLY, clear: 0 });
        assert_eq!(options.attributes, Attributes { set: attr::NOSUID, clear: 0 });
    }

    #[test]
    fn what_is_not_known_is_the_file_systems() {
        let options = read(&["mode=755", "size=64k", "newinstance", "sync"]);
        let own = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let expected =
            vec![own("mode", Some("755")), own("size", Some("64k")), own("newinstance", None), own("sync", None)];
        assert_eq!(options.data, expected);
    }

    #[test]
    fn propagation_keeps_its_order() {
        assert_eq!(read(&["rslave", "shared"]).propagation, [(SLAVE, true), (SHARED, false)]);
        assert_eq!(propagation("rshared"), Some((SHARED, true)));
        assert_eq!(propagation("ro"), None);
    }
}
