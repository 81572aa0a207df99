//! What this kernel and machine can do, found when it is first asked for and never twice; and its procfs.

pub mod caller;
pub mod cgroups;
pub mod clock;
pub mod id_mapping;
pub mod id_writer;
pub mod lsm;
pub mod mounts;
pub mod pid_namespace;
pub mod procfs;
