//! Cgroups inside a container's, which `exec --cgroup` names.

// Errors show a path in quotes and with its control characters escaped.
#![allow(clippy::unnecessary_debug_formatting)]

use std::path::{Component, Path};

use crate::error::{Context, Faults, Result};
use crate::host::cgroups::{ContainerCgroups, Hierarchy, Version};

/// The container's cgroups with those of `names` in place of the container's own: each is `[CONTROLLER[,…]:]PATH`, a path
/// in the container's cgroup, in the hierarchies that have one of the controllers or else in all. Nothing is looked at.
pub fn inside(cgroups: &ContainerCgroups, names: &[String], faults: &mut Faults) -> ContainerCgroups {
    let mut chosen = cgroups.clone();
    for name in names {
        let (controllers, path) = name.split_once(':').unwrap_or(("", name));
        let path = Path::new(path.trim_start_matches('/'));
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            faults.add("--cgroup", format_args!("{name:?} is not a path inside the container's control group"));
            continue;
        }
        let wanted = |hierarchy: &Hierarchy| {
            controllers.is_empty()
                || hierarchy.version == Version::V1 && controllers.split(',').any(|name| hierarchy.has(name))
        };
        let places = cgroups.0.iter().zip(&mut chosen.0).filter(|(own, _)| wanted(&own.hierarchy));
        let mut found = false;
        for (own, chosen) in places {
            found = true;
            chosen.path = own.path.join(path);
        }
        if !found {
            faults.add("--cgroup", format_args!("{name:?}: no version 1 hierarchy has {controllers:?}"));
        }
    }
    chosen
}

/// Makes cgroups inside a container's, where their parents are.
///
/// # Errors
/// Names the one that cannot be made; those that were are removed again.
pub fn make_inside(cgroups: &ContainerCgroups) -> Result<()> {
    for (done, cgroup) in cgroups.0.iter().enumerate() {
        let dir = cgroup.dir();
        if let Err(error) = std::fs::create_dir(&dir) {
            for made in &cgroups.0[..done] {
                let _ = std::fs::remove_dir(made.dir());
            }
            return Err(error).context(|| format!("make control group {dir:?}"));
        }
    }
    Ok(())
}

/// Removes the cgroups inside a container's whose names `gone` says are nobody's any more, and in which no process is.
pub fn prune_inside(cgroups: &ContainerCgroups, gone: impl Fn(&str) -> bool) {
    for cgroup in &cgroups.0 {
        for entry in std::fs::read_dir(cgroup.dir()).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name().to_str().is_some_and(&gone) {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroups::ContainerCgroup;

    fn paths(names: &[&str]) -> (Vec<String>, String) {
        let group = |version, controllers: &[&str]| {
            let controllers = controllers.iter().map(|&name| name.to_owned()).collect();
            let hierarchy = Hierarchy { version, mount_point: "/m".into(), controllers, own_path: None };
            ContainerCgroup { hierarchy, path: "/c".into() }
        };
        let all =
            [group(Version::V2, &["hugetlb"]), group(Version::V1, &["cpu", "cpuacct"]), group(Version::V1, &["pids"])];
        let mut faults = Faults::default();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let chosen = inside(&ContainerCgroups(all.to_vec()), &names, &mut faults);
        let paths = chosen.0.iter().map(|cgroup| cgroup.path.display().to_string()).collect();
        (paths, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn a_name_is_for_all_hierarchies_or_for_those_of_its_controllers() {
        assert_eq!(paths(&[]).0, ["/c", "/c", "/c"]);
        assert_eq!(paths(&["a/b"]).0, ["/c/a/b", "/c/a/b", "/c/a/b"]);
        assert_eq!(paths(&["cpuacct:/a", "pids:b"]).0, ["/c", "/c/a", "/c/b"]);
    }

    #[test]
    fn a_name_that_leads_out_or_nowhere_is_a_fault() {
        for name in ["../x", "a/../..", "pids:.."] {
            assert!(paths(&[name]).1.contains("is not a path inside the container's control group"), "{name}");
        }
        assert_eq!(paths(&["rdma:a"]).1, r#"--cgroup: "rdma:a": no version 1 hierarchy has "rdma""#);
        assert!(paths(&["hugetlb:a"]).1.contains("no version 1 hierarchy"));
    }
}
