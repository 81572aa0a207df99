//! `procrt update`.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::Run;
use super::global::Global;
use crate::bundle::{check_id, read_resources};
use crate::container;
use crate::error::Result;

/// Change what a container may use, while it is there
///
/// All changes are made, or none. What is not named stays, and 0 names nothing; -1 takes a limit away. Sizes are bytes, or
/// have a unit: 512k, 64M, 1.5GiB, always by 1024. FILE has the object "resources" of config.json, and options count where
/// both say something.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt update --memory 512M --memory-swap 1G web
  procrt update --cpu-quota 50000 --pids-limit 200 web
  echo '{\"cpu\": {\"cpus\": \"0-1\"}}' | procrt update --resources - web
")]
pub struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,

    /// Read the resources from FILE, or with - from standard input
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// Limit memory
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<i64>,

    /// Limit memory and swap together
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_swap: Option<i64>,

    /// Keep this much memory for the container while there is enough
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_reservation: Option<i64>,

    /// Set its share of CPU time, from 2 to 262144; 1024 is a plain one
    #[arg(long, alias = "cpu-share", value_name = "SHARES")]
    cpu_shares: Option<u64>,

    /// Limit CPU time to this many microseconds in a period
    #[arg(long, value_name = "USECS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,

    /// Set the length of a period, in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_period: Option<u64>,

    /// Let it use this much of what it has left of earlier periods, in microseconds; 0 is none
    #[arg(long, value_name = "USECS")]
    cpu_burst: Option<u64>,

    /// 1 lets it run only when nobody else does, 0 as others do
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,

    /// Limit real-time scheduling to this many microseconds in a period (version 1)
    #[arg(long, value_name = "USECS", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,

    /// Set the length of a period of real-time scheduling, in microseconds (version 1)
    #[arg(long, value_name = "USECS")]
    cpu_rt_period: Option<u64>,

    /// Run on these CPUs alone: 0-3,6
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Use memory of these nodes alone: 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// Limit the number of processes and threads
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,

    /// Set its weight among those who use a disk, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,

    /// Set its part of the level 3 cache (needs linux.intelRdt)
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,

    /// Set its part of the memory's bandwidth (needs linux.intelRdt)
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,

    /// Known to runc's callers: the kernel has no such limit any more.
    #[arg(long, value_name = "SIZE", value_parser = size, hide = true)]
    kernel_memory: Option<i64>,

    /// Known to runc's callers: the kernel has no such limit any more.
    #[arg(long, value_name = "SIZE", value_parser = size, hide = true)]
    kernel_memory_tcp: Option<i64>,
}

impl Run for Args {
    const NAME: &'static str = "update";

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        let mut resources = self.resources.as_deref().map(read_resources).transpose()?.unwrap_or_default();
        self.change(&mut resources);
        let given = |schema: &Option<String>| schema.clone().filter(|schema| !schema.is_empty());
        let shares = container::Shares {
            l3_cache_schema: given(&self.l3_cache_schema),
            mem_bw_schema: given(&self.mem_bw_schema),
        };
        container::update(&global.store()?, &self.id, &resources, &shares)?;
        Ok(0)
    }
}

impl Args {
    /// Sets what options name.
    fn change(&self, resources: &mut LinuxResources) {
        let mut memory = LinuxMemory::clone(&resources.memory().unwrap_or_default());
        memory.set_limit(self.memory.or(memory.limit()));
        memory.set_swap(self.memory_swap.or(memory.swap()));
        memory.set_reservation(self.memory_reservation.or(memory.reservation()));
        #[allow(deprecated)]
        memory.set_kernel(self.kernel_memory.or(memory.kernel()));
        memory.set_kernel_tcp(self.kernel_memory_tcp.or(memory.kernel_tcp()));
        resources.set_memory(Some(memory));

        let mut cpu: LinuxCpu = resources.cpu().clone().unwrap_or_default();
        cpu.set_shares(self.cpu_shares.or(cpu.shares()));
        cpu.set_quota(self.cpu_quota.or(cpu.quota()));
        cpu.set_period(self.cpu_period.or(cpu.period()));
        cpu.set_burst(self.cpu_burst.or(cpu.burst()));
        cpu.set_idle(self.cpu_idle.or(cpu.idle()));
        cpu.set_realtime_runtime(self.cpu_rt_runtime.or(cpu.realtime_runtime()));
        cpu.set_realtime_period(self.cpu_rt_period.or(cpu.realtime_period()));
        cpu.set_cpus(self.cpuset_cpus.clone().or_else(|| cpu.cpus().clone()));
        cpu.set_mems(self.cpuset_mems.clone().or_else(|| cpu.mems().clone()));
        resources.set_cpu(Some(cpu));

        if let Some(limit) = self.pids_limit {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            resources.set_pids(Some(pids));
        }
        if self.blkio_weight.is_some() {
            let mut io: LinuxBlockIo = resources.block_io().clone().unwrap_or_default();
            io.set_weight(self.blkio_weight);
            resources.set_block_io(Some(io));
        }
    }
}

/// A size in bytes, with a unit or without; -1 is none.
fn size(text: &str) -> std::result::Result<i64, String> {
    let fault = || format!("{text:?} is not a size such as 1073741824, 512M or -1");
    if text == "-1" || text.is_empty() {
        return Ok(if text.is_empty() { 0 } else { -1 });
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(fault()),
    };
    if let Ok(number) = number.parse::<i64>() {
        return number.checked_mul(1 << shift).ok_or_else(fault);
    }
    let bytes = number.parse::<f64>().map_err(|_| fault())? * f64::from(1_u32 << 10).powi(shift / 10);
    if bytes < 9.2e18 { Ok(bytes as i64) } else { Err(fault()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in
            [("0", 0), ("-1", -1), ("4096", 4096), ("1k", 1024), ("64M", 64 << 20), ("1.5GiB", 3 << 29)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["-2", "x", "5x", "1..2", "k", "99999999999p", "1e5"] {
            assert!(size(text).unwrap_err().contains("is not a size"), "{text}");
        }
    }
}
