//! `linux.resources.blockIO`: the weight of disk transfers, and the most of them in a second.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};

use super::resources::{Resources, Target};
use crate::host::cgroups::Version;

/// What a weight may be (config-linux.md, "Block IO").
const WEIGHT_RANGE: std::ops::RangeInclusive<u16> = 10..=1000;

/// The version 1 file that weighs where the scheduler is BFQ, and what it was called before Linux 5.0.
const V1_WEIGHT: [&str; 2] = ["blkio.bfq.weight", "blkio.weight"];
const V1_WEIGHT_DEVICE: [&str; 2] = ["blkio.bfq.weight_device", "blkio.weight_device"];

impl Resources<'_> {
    pub(super) fn block_io(&mut self, io: Option<&LinuxBlockIo>) {
        let Some(io) = io else { return };
        self.weight(io.weight(), None, "blockIO.weight");
        self.leaf_weight(io.leaf_weight(), None, "blockIO.leafWeight");
        for (index, device) in io.weight_device().iter().flatten().enumerate() {
            let field = format!("blockIO.weightDevice[{index}]");
            let Some(numbers) = self.numbers(device.major(), device.minor(), &field) else { continue };
            self.weights_of(device, &numbers, &field);
        }
        let throttles: [(_, _, _, &Option<Vec<LinuxThrottleDevice>>); 4] = [
            ("ReadBps", "rbps", "read_bps", io.throttle_read_bps_device()),
            ("WriteBps", "wbps", "write_bps", io.throttle_write_bps_device()),
            ("ReadIOPS", "riops", "read_iops", io.throttle_read_iops_device()),
            ("WriteIOPS", "wiops", "write_iops", io.throttle_write_iops_device()),
        ];
        for (name, word, file, devices) in throttles {
            for (index, device) in devices.iter().flatten().enumerate() {
                let field = format!("blockIO.throttle{name}Device[{index}]");
                let Some(numbers) = self.numbers(device.major(), device.minor(), &field) else { continue };
                let Some(mut target) = self.disks(&field) else { return };
                // 0 is no limit, as version 1 has it.
                let rate = device.rate();
                match (target.version, rate) {
                    (Version::V2, 0) => target.write(field, "io.max", format_args!("{numbers} {word}=max")),
                    (Version::V2, _) => target.write(field, "io.max", format_args!("{numbers} {word}={rate}")),
                    (Version::V1, _) => {
                        target.write(field, format!("blkio.throttle.{file}_device"), format_args!("{numbers} {rate}"))
                    }
                };
            }
        }
    }

    fn weights_of(&mut self, device: &LinuxWeightDevice, numbers: &str, field: &str) {
        if device.weight().is_none() && device.leaf_weight().is_none() {
            self.fault(field, "has neither weight nor leafWeight");
        }
        self.weight(device.weight(), Some(numbers), &format!("{field}.weight"));
        self.leaf_weight(device.leaf_weight(), Some(numbers), &format!("{field}.leafWeight"));
    }

    /// A weight for all disks, or for one. On version 2 it is BFQ's, as it is, or else on the scale of `io.weight`.
    fn weight(&mut self, weight: Option<u16>, numbers: Option<&str>, field: &str) {
        let Some(weight) = self.in_range(weight, field) else { return };
        let Some(mut target) = self.disks(field) else { return };
        let value = |weight: u32| numbers.map_or_else(|| weight.to_string(), |numbers| format!("{numbers} {weight}"));
        let plain = value(u32::from(weight));
        let [file, otherwise] = match (target.version, numbers) {
            (Version::V2, _) => ["io.bfq.weight", "io.weight"],
            (Version::V1, None) => V1_WEIGHT,
            (Version::V1, Some(_)) => V1_WEIGHT_DEVICE,
        };
        let second = if target.version == Version::V2 { value(io_weight(weight)) } else { plain.clone() };
        target.write(field.to_owned(), file, plain).otherwise = Some((otherwise, second));
    }

    fn leaf_weight(&mut self, weight: Option<u16>, numbers: Option<&str>, field: &str) {
        let Some(weight) = self.in_range(weight, field) else { return };
        let Some(mut target) = self.disks(field) else { return };
        match (target.version, numbers) {
            (Version::V2, _) => self.unsupported(field, "control groups of version 2 have none"),
            (Version::V1, None) => drop(target.write(field.to_owned(), "blkio.leaf_weight", weight)),
            (Version::V1, Some(numbers)) => {
                target.write(field.to_owned(), "blkio.leaf_weight_device", format_args!("{numbers} {weight}"));
            }
        }
    }

    fn in_range(&mut self, weight: Option<u16>, field: &str) -> Option<u16> {
        let weight = weight.filter(|weight| *weight != 0)?;
        if !WEIGHT_RANGE.contains(&weight) {
            self.fault(field, format_args!("{weight} is not from 10 to 1000"));
            return None;
        }
        Some(weight)
    }

    /// A disk as the kernel's files name it.
    fn numbers(&mut self, major: i64, minor: i64, field: &str) -> Option<String> {
        match (u32::try_from(major), u32::try_from(minor)) {
            (Ok(major), Ok(minor)) => Some(format!("{major}:{minor}")),
            _ => {
                self.fault(field, format_args!("{major}:{minor} is not a device number"));
                None
            }
        }
    }

    /// The group that limits disks: the controller has another name on each version.
    fn disks(&mut self, field: &str) -> Option<Target<'_>> {
        let v1 = self.groups.iter().any(|group| group.cgroup.hierarchy.has("blkio"));
        self.target(if v1 { "blkio" } else { "io" }, field)
    }
}

/// A weight from 10 to 1000 on `io.weight`'s scale from 1 to 10000, in a straight line, as runc and crun have it.
fn io_weight(weight: u16) -> u32 {
    1 + (u32::from(weight).saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_ends_on_the_other_scale() {
        assert_eq!([10, 100, 500, 1000].map(io_weight), [1, 910, 4950, 10000]);
    }
}
