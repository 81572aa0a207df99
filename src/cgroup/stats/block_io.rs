//! What is counted of disks.

use serde::Serialize;

use super::{Files, Pressure, is_zero};

/// Transfers, by disk and kind; those of cgroups inside are among them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    /// Transfers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    /// How much it had to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of transfers of one disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlockIoEntry {
    /// The disk's major number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// The disk's minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// The kind: `Read`, `Write`; on version 1 also `Sync`, `Async`, `Discard` and `Total`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// How many.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

impl BlockIo {
    pub(super) fn add_v2(&mut self, dir: &Files) {
        for line in dir.read("io.stat").lines() {
            let Some((numbers, words)) = line.split_once(' ') else { continue };
            for (key, value) in words.split(' ').filter_map(|word| word.split_once('=')) {
                let (list, op) = match key {
                    "rbytes" => (&mut self.io_service_bytes_recursive, "Read"),
                    "wbytes" => (&mut self.io_service_bytes_recursive, "Write"),
                    "rios" => (&mut self.io_serviced_recursive, "Read"),
                    "wios" => (&mut self.io_serviced_recursive, "Write"),
                    _ => continue,
                };
                list.extend(entry(numbers, op, value));
            }
        }
        self.psi = self.psi.take().or_else(|| dir.pressure("io.pressure"));
    }

    pub(super) fn add_v1(&mut self, dir: &Files) {
        // Whoever schedules the disk counts; where nobody does, the throttle has.
        let read = |what: &str| {
            let files = [format!("blkio.bfq.{what}_recursive"), format!("blkio.throttle.{what}_recursive")];
            let texts = files.iter().map(|file| entries(&dir.read(file)));
            texts.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
        };
        self.io_service_bytes_recursive = read("io_service_bytes");
        self.io_serviced_recursive = read("io_serviced");
    }
}

/// The lines `MAJOR:MINOR KIND NUMBER`.
fn entries(text: &str) -> Vec<BlockIoEntry> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        entry(words.next()?, words.next()?, words.next()?)
    });
    lines.collect()
}

fn entry(numbers: &str, op: &str, value: &str) -> Option<BlockIoEntry> {
    let (major, minor) = numbers.split_once(':')?;
    let (major, minor, value) = (major.parse().ok()?, minor.parse().ok()?, value.parse().ok()?);
    Some(BlockIoEntry { major, minor, op: op.to_owned(), value })
}
