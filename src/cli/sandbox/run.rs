//! `procrt sandbox run`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use super::options::Options;
use crate::cli::global::Global;
use crate::cli::{Run, print};
use crate::error::{Context, Error, Result};
use crate::sandbox::{Caller, Outcome, decide, explain, run};

/// Run a command in a sandbox
///
/// With no option, the command sees the host's programs and libraries, a private /tmp, /dev and /proc and, to write to, this
/// directory; it has no network and no privileges, and limits on memory, processes and time. What an option asks for and
/// this host cannot enforce is refused before the command runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: the command's own, or 128 and the number of the signal that ended it; 124 if its time was over; 137 if its
memory was; 99 if what is asked for cannot be had here, and nothing has run; 125 for what else is wrong; 126 and 127 for a
program that cannot be run or is not there.

Examples:
  procrt sandbox run -- make test
  procrt sandbox run --memory 256M --cpus 0.5 --timeout 5s --result result.json -- python3 answer.py
  procrt sandbox run --level default --network host --allow-tcp 443 -- curl https://example.org
  procrt sandbox run --policy policy.toml --ro /srv/data -- ./analyse /srv/data
  procrt sandbox run --explain -- true
")]
pub struct Args {
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    command: Vec<OsString>,

    /// Say what would be done, and do nothing
    #[arg(long)]
    explain: bool,

    /// Write how it ended and what it used, as JSON, to FILE or to the open descriptor N
    #[arg(long, value_name = "FILE|fd:N")]
    result: Option<OsString>,

    #[command(flatten)]
    options: Options,
}

impl Run for Args {
    const NAME: &'static str = "run";
    const MAKES_PROCESSES: bool = true;

    fn run(self, _: &Global) -> Result<i32> {
        let caller = Caller::this_process()?;
        let (job, choice) = decide(&self.options.policy()?, &caller, self.command)?;
        if self.explain {
            return print(explain(&job, &choice));
        }
        let result = self.result.map(Sink::open).transpose()?;
        let outcome = run(&job, &choice)?;
        Sink::write_outcome(result, &outcome)?;
        Ok(outcome.exit_status())
    }
}

/// Where the result goes: open before the command runs, and out of its sight.
pub(super) struct Sink {
    name: OsString,
    file: File,
}

impl Sink {
    pub(super) fn open(name: OsString) -> Result<Self> {
        let what = || format!("--result {}", name.to_string_lossy());
        let file = match name.to_str().and_then(|name| name.strip_prefix("fd:")) {
            None => File::create(&name).context(what)?,
            Some(number) => {
                let number: i32 = number
                    .parse()
                    .ok()
                    .filter(|number| *number > 0)
                    .ok_or_else(|| Error::config(format!("{}: {number:?} is no descriptor", what())))?;
                let copy: OwnedFd = crate::sys::process::copy_passed(number).context(what)?;
                File::from(copy)
            }
        };
        Ok(Self { name, file })
    }

    /// Writes an outcome there, if there is one.
    pub(super) fn write_outcome(sink: Option<Self>, outcome: &Outcome) -> Result<()> {
        let Some(sink) = sink else { return Ok(()) };
        let text = serde_json::to_vec(outcome);
        let mut text = text.map_err(|error| Error::system(format!("write the result as JSON: {error}")))?;
        text.push(b'\n');
        sink.write(&text)
    }

    fn write(mut self, text: &[u8]) -> Result<()> {
        self.file.write_all(text).context(|| format!("--result {}", self.name.to_string_lossy()))
    }
}
