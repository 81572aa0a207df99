//! procrt's seccomp filters beside libseccomp's, and beside what a profile says when it is read word by word.
//!
//! `cargo test -p procrt-differential` compares what the programs answer; `PROCRT_PROFILES` says to how many generated
//! profiles (500), `PROCRT_INPUTS` to how many calls each (200), and `PROCRT_SEED` where the generator begins. The program
//! `bench-seccomp` compares what they cost.

pub mod generator;
#[path = "../../src/seccomp/tests/interpreter.rs"]
pub mod interpreter;
pub mod model;
pub mod peer;
#[cfg(test)]
mod tests;
