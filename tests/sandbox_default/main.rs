//! Hostile programs at the sandbox's level `default`, as root and as a plain user: a process without namespaces.

mod life;
mod place;
mod reach;
#[path = "../support/mod.rs"]
mod support;
