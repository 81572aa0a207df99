//! `procrt sandbox`: run code that is not trusted, and what goes with it.
//!
//! A table of commands of its own, each as the other table's are, and with exit statuses of its own: they must not be
//! taken for those of the program in the sandbox.

mod check;
mod export;
mod image;
mod options;
mod policy;
mod run;
mod session;

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::ArgMatches;
use clap::error::ErrorKind;

use super::global::Global;
use super::{Does, Entry, PROGRAM, Run, describe, help, log, show, usage};
use crate::error::{Error, Kind, Result};
use crate::sandbox::{FAILED, UNSUPPORTED};

/// The command's name.
const NAME: &str = "sandbox";

/// The sandbox as the table of commands has it.
pub(super) const ENTRY: Entry = Entry {
    name: NAME,
    alias: None,
    makes_processes: false,
    stops_at_argument: false,
    command: all,
    does: Does::Group(dispatch),
};

/// All commands of the sandbox.
static COMMANDS: &[Entry] = &[
    entry::<run::Args>(),
    entry::<policy::Args>(),
    entry::<check::Args>(),
    entry::<export::Args>(),
    entry::<image::Args>(),
    entry::<session::Start>(),
    entry::<session::Exec>(),
    entry::<session::Swap>(),
    entry::<session::Stop>(),
    entry::<session::List>(),
];

const fn entry<C: Run>() -> Entry {
    Entry {
        name: C::NAME,
        alias: C::ALIAS,
        makes_processes: C::MAKES_PROCESSES,
        stops_at_argument: C::STOPS_AT_ARGUMENT,
        command: describe::<C>,
        does: Does::Command(run::<C>),
    }
}

fn run<C: Run>(matches: &ArgMatches, global: &Global) -> Result<i32> {
    C::from_arg_matches(matches).map_err(|error| refused(&error, C::NAME))?.run(global)
}

/// The exit status for what could not be done, which is never one of a program in the sandbox by accident: 125, 126 and 127
/// as env(1) and timeout(1) have them, 99 for what this host cannot do.
fn status(error: &Error) -> i32 {
    match error.kind() {
        Kind::Unsupported => UNSUPPORTED,
        Kind::ProgramNotExecutable => 126,
        Kind::ProgramNotFound => 127,
        _ => FAILED,
    }
}

/// Does what `args`, which stand behind `sandbox`, ask for.
fn dispatch(args: &[OsString], global: &Global) -> i32 {
    inner(args, global).unwrap_or_else(|error| {
        log::error(&error);
        status(&error)
    })
}

fn inner(args: &[OsString], global: &Global) -> Result<i32> {
    let Some((name, rest)) = args.split_first() else {
        return help(&[NAME.into(), "-h".into()]);
    };
    if name == "-h" || name == "--help" {
        return help(&[NAME.into(), name.clone()]);
    }
    if name == "help" {
        let of = rest.first().cloned();
        return help(&[NAME.into()].into_iter().chain(of).chain(["--help".into()]).collect::<Vec<_>>());
    }
    let Some(entry) = name.to_str().and_then(|name| COMMANDS.iter().find(|entry| entry.name == name)) else {
        return Err(Error::config(format!("there is no command sandbox {name:?} (see {PROGRAM} sandbox --help)")));
    };
    if entry.makes_processes {
        crate::container::own_binary::seal()?;
    }
    let command = (entry.command)().no_binary_name(true).bin_name(format!("{PROGRAM} {NAME} {}", entry.name));
    match (command.try_get_matches_from(rest), &entry.does) {
        (Err(error), _) if error.kind() == ErrorKind::DisplayHelp => show(&error),
        (Err(error), _) => Err(refused(&error, entry.name)),
        (Ok(matches), Does::Command(run)) => run(&matches, global),
        (Ok(_), Does::Group(run)) => Ok(run(rest, global)),
    }
}

fn refused(error: &clap::Error, name: &str) -> Error {
    usage(error, &format!("{NAME} {name}"))
}

/// The whole of `procrt sandbox`, for the help, completions and the manual.
fn all() -> clap::Command {
    let mut list = String::from("Commands:\n");
    for entry in COMMANDS {
        let about = (entry.command)().get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(list, "  {:<10}{about}", entry.name);
    }
    clap::Command::new(NAME)
        .about("Run code that you do not trust")
        .long_about(
            "Run code that you do not trust\n\nWhat the code may use, see and reach is a policy: options, or a file. What \
             a policy asks for and this host cannot enforce is refused before anything runs.",
        )
        .help_template(format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{{after-help}}"))
        .override_usage("procrt sandbox COMMAND [OPTIONS] [ARGUMENTS]")
        .after_help(
            "Exit status: the command's own; 124 if its time was over; 137 if its memory was; 99 for what this host \
             cannot do; 125 for what is wrong otherwise, with a policy too; 126 and 127 for a program that cannot be run \
             or is not there.",
        )
        .max_term_width(100)
        .subcommands(COMMANDS.iter().map(|entry| (entry.command)()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_done_is_no_status_of_a_programs() {
        assert_eq!(status(&Error::unsupported("")), 99);
        assert_eq!(status(&Error::config("")), 125);
        assert_eq!(status(&Error::system("")), 125);
        assert_eq!(status(&Error::new(Kind::ProgramNotFound, "")), 127);
        assert_eq!(status(&Error::new(Kind::ProgramNotExecutable, "")), 126);
    }

    #[test]
    fn the_help_names_every_command() {
        let text = all().render_long_help().to_string();
        for entry in COMMANDS {
            assert!(text.contains(&format!("\n  {} ", entry.name)), "{} in {text}", entry.name);
        }
    }
}
