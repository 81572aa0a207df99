//! `procrt events`.

use std::time::Duration;

use super::global::Global;
use super::{Run, print_json};
use crate::bundle::check_id;
use crate::container;
use crate::error::Result;

/// Show what a container uses, and when it is out of memory
///
/// Each event is a line of JSON: what the container uses, at every interval, as {"type": "stats", ...}, and a lack of memory
/// as {"type": "oom", ...} when it happens. It ends when the container ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt events --stats web | jq .data.memory.usage
  procrt events --interval 500ms web
")]
pub struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,

    /// Show what it uses every DURATION: 500ms, 5s, 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    interval: Duration,

    /// Show what it uses now, and no more
    #[arg(long)]
    stats: bool,
}

impl Run for Args {
    const NAME: &'static str = "events";

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        let store = global.store()?;
        if self.stats {
            return print_json(&container::stats(&store, &self.id)?, false);
        }
        container::events(&store, &self.id, self.interval, |event| print_json(event, false).map(drop))?;
        Ok(0)
    }
}

/// A duration as Go writes it: numbers, each with a unit.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let fault = || format!("{text:?} is not a duration such as 500ms, 5s or 1m30s");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fault)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(fault()),
        };
        let number: f64 = number.parse().map_err(|_| fault())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| fault())?;
        total = total.checked_add(part).ok_or_else(fault)?;
        rest = after;
    }
    if total.is_zero() { Err(format!("{text:?} is no time at all")) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, milliseconds) in
            [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1.5h", 5_400_000), ("1s500ms", 1500)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "0s", "5", "s", "-1s", "5 s", "1d", "1..2s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
