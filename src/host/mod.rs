//! What this kernel and machine can do, found when it is first asked for and never twice.

pub mod cgroups;
