//! What `procrt --version` prints.

use crate::bundle::OCI_VERSION;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built, if the build said so in `PROCRT_COMMIT`.
pub const COMMIT: Option<&str> = option_env!("PROCRT_COMMIT");

/// The lines that engines parse: version, commit, and the specification's version.
pub fn text() -> String {
    let commit = COMMIT.map(|commit| format!("commit: {commit}\n")).unwrap_or_default();
    format!("{} version {VERSION}\n{commit}spec: {OCI_VERSION}\n", super::PROGRAM)
}
