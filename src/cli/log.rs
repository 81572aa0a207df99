//! The log: lines as runc's callers parse them, in a file or on standard error.
//!
//! Each message is one `write` to a file that is open for appending: nothing is buffered, so nothing is lost, and two
//! processes do not mix their lines.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::PROGRAM;
use super::global::{Global, LogFormat};
use crate::error::{Context, Error, Result};

/// Where messages go, and in which form.
struct Sink {
    file: Option<(PathBuf, File)>,
    format: LogFormat,
}

static SINK: OnceLock<Sink> = OnceLock::new();

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            self.write(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

impl Sink {
    fn write(&self, level: Level, message: &str) {
        if let Some((path, file)) = &self.file {
            let written = (&*file).write_all(self.line(level, message).as_bytes());
            if let Err(error) = written {
                plain(Level::Warn, &Error::from(error).context(format_args!("write log {path:?}")).to_string());
            }
        }
        match (&self.file, self.format) {
            // Who reads standard error of a call with a log wants to know why it failed, not how it went.
            (Some(_), _) if level != Level::Error => {}
            (None, LogFormat::Json) => stderr(&self.line(level, message)),
            _ => plain(level, message),
        }
    }

    fn line(&self, level: Level, message: &str) -> String {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let time = rfc3339(seconds);
        match self.format {
            LogFormat::Json => format!(
                "{{\"level\":\"{}\",\"msg\":{},\"time\":\"{time}\"}}\n",
                name(level),
                serde_json::Value::from(message)
            ),
            LogFormat::Text => format!("time=\"{time}\" level={} msg={}\n", name(level), quoted(message)),
        }
    }
}

/// Begins to log as the global options say.
///
/// # Errors
/// `Kind::System` if the file cannot be opened.
pub fn begin(global: &Global) -> Result<()> {
    let file = match global.log.clone().filter(|path| !path.as_os_str().is_empty()) {
        None => None,
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(&path);
            Some((path.clone(), file.context(|| format!("open log {path:?}"))?))
        }
    };
    let sink = SINK.get_or_init(|| Sink { file, format: global.log_format });
    log::set_max_level(if global.debug { LevelFilter::Debug } else { LevelFilter::Info });
    // There is no other logger: it fails only when this is the second call.
    let _ = log::set_logger(sink);
    Ok(())
}

/// Reports why the program ends, also if it came to its end before [`begin`].
pub fn error(error: &Error) {
    match SINK.get() {
        Some(sink) => sink.write(Level::Error, &error.to_string()),
        None => plain(Level::Error, &error.to_string()),
    }
}

/// Writes a message for a person: one line, and nothing in it that a terminal would obey.
fn plain(level: Level, message: &str) {
    let mut line = format!("{PROGRAM}: ");
    if level != Level::Error {
        line.extend([name(level), ": "]);
    }
    for c in message.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.push('\n');
    stderr(&line);
}

fn stderr(line: &str) {
    // Nobody is left to be told.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The level's name in runc's logs.
fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// `message` as the value of a key: in quotation marks unless it is one plain word.
fn quoted(message: &str) -> String {
    if message.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/@^+".contains(&b)) {
        return message.to_owned();
    }
    let mut text = String::with_capacity(message.len() + 2);
    text.push('"');
    for c in message.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if c.is_ascii_control() => drop(write!(text, "\\x{:02x}", c as u32)),
            c if c.is_control() => drop(write!(text, "\\u{:04x}", c as u32)),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// Seconds since 1970 as a date and time in UTC. The date is found by counting whole cycles of 400 years from 1 March
/// of the year 0, so that the leap day is the last of its year.
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn a_text_line_has_runcs_form() {
        let line = Sink { file: None, format: LogFormat::Text }.line(Level::Error, "a \"b\"\n\u{1b}é");
        let (time, rest) = line.split_at(27);
        assert!(time.starts_with("time=\"20") && time.ends_with("Z\""), "{time}");
        assert_eq!(rest, " level=error msg=\"a \\\"b\\\"\\n\\x1bé\"\n");
        assert_eq!(quoted("word"), "word");
    }

    #[test]
    fn a_json_line_has_runcs_fields() {
        let line = Sink { file: None, format: LogFormat::Json }.line(Level::Warn, "a \"b\"\n");
        assert!(line.ends_with('\n') && line.lines().count() == 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["level"], &value["msg"]), (&"warning".into(), &"a \"b\"\n".into()));
        assert_eq!(value["time"].as_str().unwrap().len(), 20);
    }
}
