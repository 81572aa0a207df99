//! `procrt kill`, and signals by name or number.

use std::str::FromStr;

use nix::sys::signal::Signal;

use super::Run;
use super::global::Global;
use crate::bundle::check_id;
use crate::container;
use crate::error::{Error, Result};

/// The first real-time signal that programs may use: the C library keeps 32 and 33.
const RTMIN: i32 = 34;

/// The last signal.
const RTMAX: i32 = 64;

/// Send a signal to a container
///
/// The signal goes to the container's first process, or with --all to every process in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt kill web                          Ask it to end
  procrt kill web KILL
  procrt kill --all web 9                  Every process in it
  procrt kill web RTMIN+3
")]
pub struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,

    /// The signal: a name, with or without SIG, in any case; or a number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    signal: String,

    /// Send the signal to every process of the container
    #[arg(long, short)]
    all: bool,
}

impl Run for Args {
    const NAME: &'static str = "kill";

    fn run(self, global: &Global) -> Result<i32> {
        check_id(&self.id)?;
        let signal = parse_signal(&self.signal)?;
        container::kill(&global.store()?, &self.id, signal, self.all)?;
        Ok(0)
    }
}

/// The number of a signal that is given by name or number; 0 asks only whether it could be sent.
fn parse_signal(text: &str) -> Result<i32> {
    let unknown = || Error::config(format!("{text:?} is not a signal's name or number"));
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (0..=RTMAX).contains(number)).ok_or_else(unknown);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| {
        if rest.is_empty() {
            return Some(0);
        }
        let digits = rest.strip_prefix(sign).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse::<i32>().ok().filter(|offset| (0..=RTMAX - RTMIN).contains(offset))
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+').map(|offset| RTMIN + offset).ok_or_else(unknown);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest, '-').map(|offset| RTMAX - offset).ok_or_else(unknown);
    }
    // Older names of the same numbers.
    let name = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        name => name,
    };
    Signal::from_str(&format!("SIG{name}")).map(|signal| signal as i32).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, number) in [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("9", 9),
            ("0", 0),
            ("TERM", 15),
            ("HUP", 1),
            ("POLL", 29),
            ("IOT", 6),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("64", 64),
        ] {
            assert_eq!(parse_signal(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "",
            "SIG",
            "FOO",
            "65",
            "-9",
            "+9",
            "99999999999",
            "RTMIN+31",
            "RTMIN-1",
            "RTMIN++1",
            "RTMAX-31",
            "KILL ",
            "SIGSIGKILL",
        ] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
        assert_eq!(parse_signal("FOO").unwrap_err().to_string(), r#""FOO" is not a signal's name or number"#);
    }
}
