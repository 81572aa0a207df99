//! The values of a policy that have units: sizes, times and shares of processors, written as people write them.
//!
//! In a policy file and on the command line they are the same text; a bare number is in the base unit.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// An amount of bytes: `64M`, `1.5G`, `4096`. Units are of 1024 (`K`, `M`, `G`, `T`, each also as `KiB` or `KB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A span of time: `500ms`, `5s`, `2m`, `1h`, `1.5`; a bare number is in seconds. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A share of processors in thousandths of one: `0.5`, `2`, `50%` (of one processor). Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus(pub u32);

/// A limit of setrlimit(2): a number, a size (`64M`), or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub u64);

/// A decimal number and what follows it.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    number.starts_with(|c: char| c.is_ascii_digit()).then_some((number, unit.trim_start()))
}

/// `number` times `scale`, exactly, rounded down; None if it is no number or too large.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if part.is_empty() || part.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let part = u128::from(part.parse::<u32>().ok()?) * u128::from(scale) / 10_u128.pow(part.len() as u32);
    whole.checked_add(u64::try_from(part).ok()?)
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = split(text).and_then(|(number, unit)| {
            let unit = unit.to_ascii_uppercase();
            let power = match unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit) {
                "" if matches!(unit.as_str(), "" | "B") => 0,
                "K" => 1,
                "M" => 2,
                "G" => 3,
                "T" => 4,
                _ => return None,
            };
            scaled(number, 1024_u64.pow(power))
        });
        bytes.map(Self).ok_or_else(|| format!("{text:?} is not a size like 64M, 1.5G or 4096"))
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let nanoseconds = split(text).and_then(|(number, unit)| {
            let scale = match unit {
                "ms" => 1_000_000,
                "" | "s" => 1_000_000_000,
                "m" | "min" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                "d" => 86_400_000_000_000,
                _ => return None,
            };
            scaled(number, scale)
        });
        match nanoseconds {
            Some(0) => Err(format!("{text:?} is no time at all")),
            Some(nanoseconds) => Ok(Self(Duration::from_nanos(nanoseconds))),
            None => Err(format!("{text:?} is not a time like 500ms, 5s, 2m or 1h")),
        }
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let thousandths = split(text).and_then(|(number, unit)| match unit {
            "" => scaled(number, 1000),
            "%" => scaled(number, 10),
            _ => None,
        });
        match thousandths.map(u32::try_from) {
            // The kernel's shortest quota is 1 ms of a period that is 100 ms as a rule.
            Some(Ok(thousandths)) if thousandths >= 10 => Ok(Self(thousandths)),
            Some(Ok(_)) => Err(format!("{text:?} is less than 0.01, the smallest share of a processor")),
            _ => Err(format!("{text:?} is not a share of processors like 0.5, 2 or 50%")),
        }
    }
}

impl Amount {
    /// `RLIM_INFINITY`.
    pub const UNLIMITED: Self = Self(u64::MAX);
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(Self::UNLIMITED);
        }
        let wrong = || format!("{text:?} is not a limit like 64, 64M or unlimited");
        text.parse::<Size>().map(|size| Self(size.0)).map_err(|_| wrong())
    }
}

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        let unit = units.into_iter().find(|(bits, _)| self.0 != 0 && self.0.trailing_zeros() >= *bits);
        match unit {
            Some((bits, name)) => write!(f, "{}{name}", self.0 >> bits),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_nanos()) {
            (seconds, 0) if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            (seconds, 0) if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            (seconds, 0) => write!(f, "{seconds}s"),
            (seconds, nanoseconds) => {
                write!(f, "{}s", format!("{seconds}.{nanoseconds:09}").trim_end_matches('0'))
            }
        }
    }
}

impl Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

impl Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::UNLIMITED { f.write_str("unlimited") } else { write!(f, "{}", self.0) }
    }
}

/// Reads text or a number, both as the text of it.
struct Text<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! as_text {
    ($type:ident, $expecting:literal, $examples:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text(std::marker::PhantomData, $expecting))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": ["string", "number"], "description": $expecting, "examples": $examples})
            }
        }
    };
}

as_text!(Size, "a size: a number of bytes, or with K, M, G or T of 1024", ["64M", "1.5G", "4096"]);
as_text!(Time, "a time: a number of seconds, or with ms, s, m, h or d", ["500ms", "5s", "60"]);
as_text!(Cpus, "a share of processors: a number of them, or per cent of one", ["50%", "0.5", "2"]);
as_text!(Amount, "a limit of setrlimit(2): a number, a size, or unlimited", ["64", "64M", "unlimited"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_units_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1k", 1024),
            ("64M", 64 << 20),
            ("1.5G", 3 << 29),
            ("2 GiB", 2 << 30),
            ("3KB", 3072),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "M", "-1", "1X", "1iB", "1.M", "1..5", "99999999T", "0x10", "1e3", "1M1", " 1"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_in_seconds_without_a_unit_and_never_none() {
        for (text, milliseconds) in [("500ms", 500), ("5s", 5000), ("1.5", 1500), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse(), Ok(Time(Duration::from_millis(milliseconds))), "{text}");
        }
        for text in ["0", "0s", "", "s", "-5s", "5x", "5S", "1h30m", "99999999999d"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    #[test]
    fn shares_of_processors_are_numbers_or_per_cent_of_one() {
        for (text, thousandths) in [("0.5", 500), ("50%", 500), ("2", 2000), ("150%", 1500), ("0.01", 10)] {
            assert_eq!(text.parse(), Ok(Cpus(thousandths)), "{text}");
        }
        for text in ["0", "0.001", "0%", "", "%", "-1", "1c", "5000000000"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_as_the_same() {
        for size in [0, 1, 1023, 1024, 64 << 20, 3 << 29, (1 << 30) + 1] {
            assert_eq!(Size(size).to_string().parse(), Ok(Size(size)));
        }
        for time in [1, 999, 1000, 1500, 60_000, 90_000, 3_600_000] {
            let time = Time(Duration::from_millis(time));
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for amount in [Amount(7), Amount::UNLIMITED] {
            assert_eq!(amount.to_string().parse(), Ok(amount));
        }
        assert_eq!(Cpus(1250).to_string(), "1.25");
    }

    #[test]
    fn numbers_of_json_are_in_the_base_unit() {
        assert_eq!(serde_json::from_str::<Size>("4096").unwrap(), Size(4096));
        assert_eq!(serde_json::from_str::<Cpus>("0.5").unwrap(), Cpus(500));
        assert_eq!(serde_json::from_str::<Time>("\"250ms\"").unwrap(), Time(Duration::from_millis(250)));
        assert!(serde_json::from_str::<Size>("-1").unwrap_err().to_string().contains("-1"));
    }
}
