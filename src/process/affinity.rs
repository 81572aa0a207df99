//! The CPUs of a process that joins a container.

use oci_spec::runtime::ExecCPUAffinity;

use super::ExecAffinity;
use crate::error::Faults;

/// As many CPUs as sched_setaffinity(2) is told of here: as in the C library's `cpu_set_t`.
const MOST: usize = 1024;

/// Decides on `process.execCPUAffinity`.
pub fn plan(affinity: Option<&ExecCPUAffinity>, faults: &mut Faults) -> ExecAffinity {
    let Some(affinity) = affinity else {
        return ExecAffinity::default();
    };
    let mut read = |field: &str, text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        list(text).unwrap_or_else(|| {
            let path = format!("process.execCPUAffinity.{field}");
            faults.add(path, format_args!("{text:?} is not a list of CPUs below {MOST}, such as 0-3,7"));
            Vec::new()
        })
    };
    ExecAffinity { initial: read("initial", affinity.initial()), last: read("final", affinity.cpu_affinity_final()) }
}

/// The numbers of a list such as `0-3,7`; none in an empty one.
fn list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbers_and_ranges() {
        assert_eq!(list("0-3,7").unwrap(), [0, 1, 2, 3, 7]);
        assert_eq!(list("").unwrap(), [0_usize; 0]);
        for wrong in ["3-1", "0,", "a", "1024", "1-2-3", "-1"] {
            assert_eq!(list(wrong), None, "{wrong}");
        }
    }
}
