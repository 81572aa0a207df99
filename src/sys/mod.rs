//! System calls that nix lacks, as thin typed functions. The only place of the crate where `unsafe` stands.
//!
//! Every function does one system call (or one that cannot be told from one), takes and gives descriptors as owned or
//! borrowed types, and answers `Err(Errno)`; what was being done is for the caller to say.

pub mod child;
pub mod socket;
pub mod terminal;
