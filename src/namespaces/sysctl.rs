//! Kernel parameters: only those that belong to a namespace of the container's own.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use super::{Namespace, NamespacesPlan};
use crate::error::{Context, Faults, Result};
use crate::host::procfs;

/// Parameters of the IPC namespace that are not below `fs/mqueue/` (ipc_namespaces(7), mq_overview(7)).
const IPC: [&str; 11] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/msg_next_id",
    "kernel/sem",
    "kernel/sem_next_id",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_next_id",
    "kernel/shm_rmid_forced",
];

/// The path below /proc/sys of a parameter in either spelling, `a.b.c` or `a/b/c`: whichever separator comes first
/// separates, and the other one is part of a name (`net.ipv4.conf.eth0/1.forwarding`, sysctl.d(5)).
fn path_of(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(first) if key.as_bytes()[first] == b'.' => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// The kind of namespace that the parameter at `path` belongs to, if to any.
pub(super) fn owner(path: &str) -> Option<Namespace> {
    if path.starts_with("net/") {
        Some(Namespace::Network)
    } else if path.starts_with("fs/mqueue/") || IPC.contains(&path) {
        Some(Namespace::Ipc)
    } else if path == "kernel/domainname" {
        Some(Namespace::Uts)
    } else if path.starts_with("user/max_") {
        Some(Namespace::User)
    } else {
        None
    }
}

pub(super) fn plan(
    parameters: BTreeMap<&String, &String>,
    namespaces: &NamespacesPlan,
    faults: &mut Faults,
) -> Vec<(String, String)> {
    let mut planned = Vec::new();
    for (key, value) in parameters {
        let at = format!("linux.sysctl[{key:?}]");
        let path = path_of(key);
        if path.is_empty()
            || path.starts_with('/')
            || path.split('/').any(|part| part.is_empty() || part == ".." || part == ".")
        {
            faults.add(at, "is not the name of a kernel parameter");
            continue;
        }
        if path == "kernel/hostname" {
            faults.add(at, "is what the hostname field sets");
            continue;
        }
        let Some(needs) = owner(&path) else {
            faults.add(at, "is not a parameter of a namespace: it would change the host");
            continue;
        };
        if namespaces.has(needs) {
            planned.push((path, value.clone()));
        } else {
            faults.add(at, format_args!("needs a {} namespace", needs.name()));
        }
    }
    planned
}

/// Writes the parameters, inside the namespaces, through a checked handle on procfs.
///
/// # Errors
/// Names the parameter, its value and the kernel's refusal.
pub fn apply(plan: &NamespacesPlan, proc: BorrowedFd) -> Result<()> {
    for (path, value) in &plan.sysctl {
        procfs::write(proc, &format!("sys/{path}"), value)
            .context(|| format!("set kernel parameter {path:?} to {value:?}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(key: &str, new: &[Namespace]) -> (Vec<(String, String)>, String) {
        let namespaces = NamespacesPlan { new: new.to_vec(), ..NamespacesPlan::default() };
        let (key, value) = (key.to_owned(), "1".to_owned());
        let mut faults = Faults::default();
        let plan = plan([(&key, &value)].into(), &namespaces, &mut faults);
        (plan, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn both_spellings_name_the_same_parameter() {
        for key in ["net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"] {
            let (plan, faults) = planned(key, &[Namespace::Network]);
            assert_eq!((plan, faults.as_str()), (vec![("net/ipv4/conf/eth0.1/forwarding".into(), "1".into())], ""));
        }
    }

    #[test]
    fn a_parameter_of_the_host_or_of_a_shared_namespace_is_refused() {
        assert!(planned("vm.swappiness", &[Namespace::Ipc]).1.contains("would change the host"));
        assert!(planned("kernel.shmmax", &[Namespace::Network]).1.contains("needs a ipc namespace"));
        assert!(planned("net.core.somaxconn", &[]).1.contains("needs a network namespace"));
        assert!(planned("kernel.hostname", &[Namespace::Uts]).1.contains("hostname field"));
        assert!(planned("net/../vm/swappiness", &[Namespace::Network]).1.contains("is not the name"));
    }
}
