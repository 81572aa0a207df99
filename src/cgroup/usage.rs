//! What a container's processes have used together, and how often a limit has held them: for those who report on one that
//! has ended. What no control group counts is not known, and is not guessed.

use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::Cgroup;
use crate::host::cgroups::Version;

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time.
    pub cpu_time: Option<Duration>,
    /// The most memory in use at once, in bytes.
    pub peak_memory: Option<u64>,
    /// Bytes read from block devices.
    pub bytes_read: Option<u64>,
    /// Bytes written to block devices.
    pub bytes_written: Option<u64>,
    /// How often a process was killed for memory.
    pub oom_kills: Option<u64>,
    /// How often the limit of processes has kept one from being made.
    pub pids_refused: Option<u64>,
}

impl Cgroup {
    /// What the container has used up to now.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for cgroup in &self.cgroups().0 {
            let (hierarchy, dir) = (&cgroup.hierarchy, cgroup.dir());
            match hierarchy.version {
                Version::V2 => usage.add_v2(&dir),
                Version::V1 => hierarchy.controllers.iter().for_each(|controller| usage.add_v1(controller, &dir)),
            }
        }
        usage
    }
}

impl Usage {
    /// Documentation/admin-guide/cgroup-v2.rst.
    fn add_v2(&mut self, dir: &Path) {
        // On a hybrid machine the group counts nothing of what version 1 does, but has this file all the same.
        if let Some(events) = read(dir, "memory.events") {
            self.oom_kills = keyed(&events, "oom_kill");
            self.peak_memory = read(dir, "memory.peak").and_then(|text| text.trim().parse().ok());
        }
        if let Some(events) = read(dir, "pids.events") {
            self.pids_refused = keyed(&events, "max");
        }
        if let Some(io) = read(dir, "io.stat") {
            (self.bytes_read, self.bytes_written) = (Some(sum(&io, "rbytes=")), Some(sum(&io, "wbytes=")));
        }
        if self.oom_kills.is_some() || self.pids_refused.is_some() {
            let time = read(dir, "cpu.stat").and_then(|text| keyed(&text, "usage_usec"));
            self.cpu_time = time.map(Duration::from_micros);
        }
    }

    /// Documentation/admin-guide/cgroup-v1.
    fn add_v1(&mut self, controller: &str, dir: &Path) {
        let number = |file: &str| read(dir, file).and_then(|text| text.trim().parse().ok());
        match controller {
            "memory" => {
                self.oom_kills = read(dir, "memory.oom_control").and_then(|text| keyed(&text, "oom_kill"));
                self.peak_memory = number("memory.max_usage_in_bytes");
            }
            "pids" => self.pids_refused = read(dir, "pids.events").and_then(|text| keyed(&text, "max")),
            "cpuacct" => self.cpu_time = number("cpuacct.usage").map(Duration::from_nanos),
            "blkio" => {
                let text = read(dir, "blkio.throttle.io_service_bytes");
                let total = |kind: &str| {
                    let lines = text.as_ref()?.lines().filter_map(|line| line.split_once(' '));
                    let values = lines.filter_map(|(_, rest)| rest.strip_prefix(kind)?.trim().parse::<u64>().ok());
                    Some(values.sum())
                };
                (self.bytes_read, self.bytes_written) = (total("Read "), total("Write "));
            }
            _ => {}
        }
    }
}

/// A file's text, if there is one: it is short, and read at once.
fn read(dir: &Path, file: &str) -> Option<String> {
    let file = open(&dir.join(file), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let mut text = vec![0; 8192];
    let length = nix::unistd::read(&file, &mut text).ok()?;
    text.truncate(length);
    String::from_utf8(text).ok()
}

/// The number on the line that begins with `key`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The numbers of all words that begin with `key`.
fn sum(text: &str, key: &str) -> u64 {
    text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn version_2_counts_in_few_files() {
        let dir = files(&[
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
            ("memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 7\n"),
            ("memory.peak", "4096\n"),
            ("pids.events", "max 5\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3\n8:16 rbytes=10 wbytes=20 rios=30\n"),
        ]);
        let mut usage = Usage::default();
        usage.add_v2(dir.path());
        let all = Usage {
            cpu_time: Some(Duration::from_micros(1500)),
            peak_memory: Some(4096),
            bytes_read: Some(11),
            bytes_written: Some(22),
            oom_kills: Some(2),
            pids_refused: Some(5),
        };
        assert_eq!(usage, all);
    }

    #[test]
    fn version_1_counts_in_a_hierarchy_each() {
        let dir = files(&[
            ("cpuacct.usage", "1000000\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("memory.max_usage_in_bytes", "8192\n"),
            ("pids.events", "max 0\n"),
            ("blkio.throttle.io_service_bytes", "8:0 Read 5\n8:0 Write 6\n8:16 Read 1\nTotal 12\n"),
        ]);
        let mut usage = Usage::default();
        for controller in ["memory", "pids", "cpuacct", "blkio", "freezer"] {
            usage.add_v1(controller, dir.path());
        }
        let all = Usage {
            cpu_time: Some(Duration::from_millis(1)),
            peak_memory: Some(8192),
            bytes_read: Some(6),
            bytes_written: Some(6),
            oom_kills: Some(1),
            pids_refused: Some(0),
        };
        assert_eq!(usage, all);
    }

    #[test]
    fn what_is_not_counted_is_not_known() {
        let mut usage = Usage::default();
        usage.add_v2(files(&[("cpu.stat", "usage_usec 5\n")]).path());
        usage.add_v1("memory", files(&[]).path());
        assert_eq!(usage, Usage::default());
    }
}
