//! What came of a command in a sandbox, for programs to read.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::backend::Choice;
use super::policy::Limits;

/// The exit status for a command that ran out of time, as timeout(1) has it.
pub const TIMED_OUT: i32 = 124;
/// The exit status for what is procrt's own failure, or a policy's fault.
pub const FAILED: i32 = 125;
/// The exit status for a command whose memory ran out: that of SIGKILL in a shell.
pub const OUT_OF_MEMORY: i32 = 137;
/// The exit status for what the host or the level cannot enforce; nothing has run.
pub const UNSUPPORTED: i32 = 99;

/// How a command in a sandbox ended, and what it used. What could not be known is `null` (None), never a guess.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The command's exit status, if it exited.
    pub exit_code: Option<i32>,
    /// The number of the signal that ended it, if one did.
    pub signal: Option<i32>,
    /// It was ended because its time was over.
    pub timed_out: bool,
    /// A process of it was killed because the memory's limit was reached (the control group's `oom_kill` count).
    pub memory_exceeded: bool,
    /// A process or thread could not be made because of the limit (the control group's `pids.events`). None where no
    /// control group counts.
    pub pids_exceeded: Option<bool>,
    /// Output beyond the limit was thrown away.
    pub output_truncated: bool,
    /// From its start to its end.
    #[serde(rename = "wall_time_seconds", serialize_with = "seconds")]
    pub wall_time: Duration,
    /// Processor time of all its processes.
    #[serde(rename = "cpu_time_seconds", serialize_with = "maybe_seconds")]
    pub cpu_time: Option<Duration>,
    /// The most memory in use at once, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes read from block devices.
    pub bytes_read: Option<u64>,
    /// Bytes written to block devices.
    pub bytes_written: Option<u64>,
    /// The system calls that were refused, by name, in alphabetical order.
    pub denied_system_calls: Option<Vec<String>>,
    /// The backend that ran it, and why that one.
    pub backend: Choice,
    /// The limits that were in force.
    pub limits: Limits,
}

impl Outcome {
    /// The exit status of `procrt sandbox run`: the command's own, [`TIMED_OUT`], [`OUT_OF_MEMORY`], or 128 and the
    /// number of the signal that ended it.
    pub fn exit_status(&self) -> i32 {
        match self {
            Self { timed_out: true, .. } => TIMED_OUT,
            Self { memory_exceeded: true, exit_code: None, .. } => OUT_OF_MEMORY,
            Self { exit_code: Some(code), .. } => *code,
            Self { signal: Some(signal), .. } => 128 + signal,
            _ => FAILED,
        }
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[allow(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn maybe_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}
