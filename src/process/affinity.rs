//! The CPUs of a process that joins a container.

use oci_spec::runtime::ExecCPUAffinity;

use super::{ExecAffinity, numbers};
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
        numbers::list(text, MOST).unwrap_or_else(|| {
            let path = format!("process.execCPUAffinity.{field}");
            faults.add(path, format_args!("{text:?} is not a list of CPUs below {MOST}, such as 0-3,7"));
            Vec::new()
        })
    };
    ExecAffinity { initial: read("initial", affinity.initial()), last: read("final", affinity.cpu_affinity_final()) }
}
