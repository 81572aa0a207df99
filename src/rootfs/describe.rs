//! The plan of a root in words.

use nix::mount::MsFlags;

use super::Fresh;
use super::plan::DEFAULT_DEVICES;
use super::{IdMap, Ids, RootfsPlan, Switch, What, options};
use crate::host::id_mapping::IdMapping;

fn propagation_name((flag, recursive): (u64, bool)) -> String {
    let name = match MsFlags::from_bits_retain(flag) {
        MsFlags::MS_SHARED => "shared",
        MsFlags::MS_SLAVE => "slave",
        MsFlags::MS_UNBINDABLE => "unbindable",
        _ => "private",
    };
    format!("{}{name}", if recursive { "r" } else { "" })
}

fn describe_ids(map: &IdMap) -> String {
    let name = if map.recursive { "ridmap" } else { "idmap" };
    let list = |list: &[IdMapping]| {
        let lines: Vec<_> = list.iter().map(|map| format!("{}+{}:{}", map.container, map.size, map.host)).collect();
        lines.join(" ")
    };
    match &map.ids {
        Ids::Container => format!("{name} as the container's"),
        Ids::Own { uids, gids } => format!("{name} users {} groups {}", list(uids), list(gids)),
    }
}

impl RootfsPlan {
    /// What will be done, in words, in order.
    pub fn describe(&self) -> Vec<String> {
        let root = self.fresh.as_ref().map_or_else(|| format!("root {}", self.root.display()), Fresh::describe);
        let mut lines = vec![format!(
            "{root}, {}, {}",
            if self.readonly { "read-only" } else { "read-write" },
            match self.switch {
                Switch::Pivot => "made / by pivot_root",
                Switch::Move => "made / by chroot over the old root",
                Switch::Chroot => "made / by chroot, in a mount namespace that is shared",
            }
        )];
        let last = self.final_propagation.map(|last| format!(", then the root is {}", propagation_name(last)));
        lines.push(format!(
            "the host's mounts become {}{}",
            propagation_name(self.propagation),
            last.unwrap_or_default()
        ));
        for mount in &self.mounts {
            let what = match &mount.what {
                What::Bind { source, recursive } => {
                    format!("{} {}", if *recursive { "rbind" } else { "bind" }, source.display())
                }
                What::FileSystem { name, .. } => format!("new {name}"),
                What::Cgroups { binds, .. } if binds.len() == 1 => "the container's control group".to_owned(),
                What::Cgroups { binds, .. } => format!("the container's control groups in {} hierarchies", binds.len()),
                What::Overlay { lower, .. } => format!("{}, with what is written kept in memory,", lower.display()),
                What::Remount => "remount".to_owned(),
            };
            let mut words: Vec<String> = options::describe(mount.attributes).into_iter().map(str::to_owned).collect();
            words.extend(options::describe(mount.recursive).into_iter().map(|word| format!("r{word}")));
            words.extend(mount.id_map.iter().map(describe_ids));
            words.extend(mount.propagation.iter().map(|change| propagation_name(*change)));
            if let What::FileSystem { data, copy_up, .. } = &mount.what {
                words.extend(data.iter().map(|(key, value)| match value {
                    Some(value) => format!("{key}={value}"),
                    None => key.clone(),
                }));
                words.extend(copy_up.then(|| "tmpcopyup".to_owned()));
            }
            let words = if words.is_empty() { String::new() } else { format!(" ({})", words.join(",")) };
            lines.push(format!("{} <- {what}{words}", mount.destination.display()));
        }
        lines.extend(self.mount_label.iter().map(|label| format!("SELinux label of new file systems: {label:?}")));
        if self.own_dev {
            let how = if self.bind_devices { "bound from the host" } else { "made" };
            let names: Vec<_> = self.devices.iter().map(|device| device.path.display().to_string()).collect();
            lines.push(format!("devices {how}: {}", names.join(" ")));
        } else {
            lines.push(format!(
                "/dev is the bundle's own: none of the {} default devices is made",
                DEFAULT_DEVICES.len()
            ));
        }
        if self.console {
            lines.push("/dev/console is the terminal".to_owned());
        }
        for (what, paths) in [("hidden", &self.masked), ("read-only", &self.readonly_paths)] {
            if !paths.is_empty() {
                let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                lines.push(format!("{what}: {}", names.join(" ")));
            }
        }
        lines
    }
}
