//! What is counted of memory.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Files, Pressure, is_zero, of};

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// The page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// All of it.
    pub usage: MemoryEntry,
    /// Memory and swap together.
    pub swap: MemoryEntry,
    /// The kernel's (version 1).
    pub kernel: MemoryEntry,
    /// That of TCP's buffers (version 1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat` as it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// How much it had to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
    /// `memory.events` (version 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_count: Option<MemoryEventCount>,
}

/// One kind of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// How much there may be.
    pub limit: u64,
    /// How much there is.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most there was.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// How often something happened for want of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the kernel's words
pub struct MemoryEventCount {
    #[serde(skip_serializing_if = "is_zero")]
    pub low: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub high: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub oom: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub oom_kill: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub oom_group_kill: u64,
}

impl Memory {
    pub(super) fn of_v2(dir: &Files) -> Self {
        let raw = dir.keyed("memory.stat");
        let events = dir.keyed("memory.events");
        let usage = MemoryEntry {
            limit: dir.limit("memory.max"),
            usage: dir.number("memory.current"),
            max: dir.number("memory.peak"),
            failcnt: of(&events, "max"),
        };
        // Version 1 counts both together, and so does who reads this.
        let swap = MemoryEntry {
            limit: dir.limit("memory.swap.max").saturating_add(usage.limit),
            usage: dir.number("memory.swap.current") + usage.usage,
            max: 0,
            failcnt: 0,
        };
        let event_count = MemoryEventCount {
            low: of(&events, "low"),
            high: of(&events, "high"),
            max: of(&events, "max"),
            oom: of(&events, "oom"),
            oom_kill: of(&events, "oom_kill"),
            oom_group_kill: of(&events, "oom_group_kill"),
        };
        Self {
            cache: of(&raw, "file"),
            usage,
            swap,
            raw,
            psi: dir.pressure("memory.pressure"),
            event_count: Some(event_count),
            ..Self::default()
        }
    }

    pub(super) fn of_v1(dir: &Files) -> Self {
        let raw = dir.keyed("memory.stat");
        let entry = |name: &str| MemoryEntry {
            limit: dir.number(&format!("memory{name}.limit_in_bytes")),
            usage: dir.number(&format!("memory{name}.usage_in_bytes")),
            max: dir.number(&format!("memory{name}.max_usage_in_bytes")),
            failcnt: dir.number(&format!("memory{name}.failcnt")),
        };
        Self {
            cache: of(&raw, "cache"),
            usage: entry(""),
            swap: entry(".memsw"),
            kernel: entry(".kmem"),
            kernel_tcp: entry(".kmem.tcp"),
            raw,
            ..Self::default()
        }
    }
}
