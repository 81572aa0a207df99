//! The command line: runc's, with a file a command.
//!
//! A call is parsed in two steps, the global options and then the one command's: no other command is even described to
//! the parser, which keeps the start short, and a wrong option of a command can be written to the log that the global
//! options name. The whole tree is there too, as [`command`], for the help, completions and the manual.

// Paths stand in messages quoted and escaped.
#![allow(clippy::unnecessary_debug_formatting)]

mod create;
mod delete;
mod engines;
mod events;
mod exec;
pub mod explain;
pub mod features;
mod global;
mod goflags;
mod kill;
mod list;
mod log;
mod pause;
mod ps;
mod resume;
mod run;
mod sandbox;
mod seccomp;
mod spec;
mod start;
mod state;
mod update;
mod version;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::ErrorKind;

use crate::error::{Context, Error, Result};
use global::Global;

/// The program's name, in its help and before its messages.
const PROGRAM: &str = "procrt";

/// One command: its arguments, described to clap, and what it does.
trait Run: clap::Args {
    /// The command's name.
    const NAME: &'static str;
    /// Another name for it.
    const ALIAS: Option<&'static str> = None;

    /// Whether it makes processes of a container, for which procrt's own program file must be out of reach.
    const MAKES_PROCESSES: bool = false;

    /// Whether options end at the first argument, and whatever follows is somebody else's command line.
    const STOPS_AT_ARGUMENT: bool = false;

    /// The exit status if it cannot be done.
    const FAILURE: i32 = 1;

    /// Does it; answers the exit status.
    fn run(self, global: &Global) -> Result<i32>;
}

/// A command as the table has it.
struct Entry {
    name: &'static str,
    alias: Option<&'static str>,
    makes_processes: bool,
    stops_at_argument: bool,
    command: fn() -> clap::Command,
    does: Does,
}

/// What a command does.
enum Does {
    /// What its arguments say.
    Command(fn(&ArgMatches, &Global) -> Result<i32>),
    /// It has commands of its own, and takes what stands behind its name as it is.
    Group(fn(&[OsString], &Global) -> i32),
}

const fn entry<C: Run>() -> Entry {
    Entry {
        name: C::NAME,
        alias: C::ALIAS,
        makes_processes: C::MAKES_PROCESSES,
        stops_at_argument: C::STOPS_AT_ARGUMENT,
        command: describe::<C>,
        does: Does::Command(parse_and_run::<C>),
    }
}

fn describe<C: Run>() -> clap::Command {
    let command = C::augment_args(clap::Command::new(C::NAME)).args_override_self(true).max_term_width(100);
    C::ALIAS.into_iter().fold(command, clap::Command::visible_alias)
}

fn parse_and_run<C: Run>(matches: &ArgMatches, global: &Global) -> Result<i32> {
    let command = C::from_arg_matches(matches).map_err(|error| usage(&error, C::NAME))?;
    Ok(command.run(global).unwrap_or_else(|error| {
        log::error(&error);
        C::FAILURE
    }))
}

/// All commands, in the groups that the help shows.
static COMMANDS: [(&str, &[Entry]); 4] = [
    (
        "The life of a container",
        &[
            entry::<create::Args>(),
            entry::<start::Args>(),
            entry::<run::Args>(),
            entry::<exec::Args>(),
            entry::<kill::Args>(),
            entry::<pause::Args>(),
            entry::<resume::Args>(),
            entry::<update::Args>(),
            entry::<delete::Args>(),
        ],
    ),
    (
        "Containers that are there",
        &[entry::<state::Args>(), entry::<list::Args>(), entry::<ps::Args>(), entry::<events::Args>()],
    ),
    ("Code that is not trusted", &[sandbox::ENTRY]),
    (
        "Bundles, and procrt itself",
        &[
            entry::<spec::Args>(),
            entry::<explain::Args>(),
            entry::<seccomp::Args>(),
            entry::<features::Args>(),
            entry::<engines::Args>(),
        ],
    ),
];

fn find(name: &str) -> Option<&'static Entry> {
    let all = COMMANDS.iter().flat_map(|(_, entries)| entries.iter());
    all.into_iter().find(|entry| entry.name == name || entry.alias == Some(name))
}

/// Does what `args` (with the program's name first) ask for; answers the exit status: 0 if it was done, 1 if not, and
/// of `run` and `exec`, the container's own. What `exec` cannot do is 255, as with runc.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.skip(1).collect();
    // Not a command: what the first process of a container that has no program of its own is.
    if let [only] = args.as_slice()
        && only.as_encoded_bytes() == crate::init::attend::HELD.to_bytes()
    {
        crate::init::attend::held();
    }
    // What is to be executed again is, before much has been done: the first time costs next to nothing then. If it cannot
    // be, whoever makes a process says so.
    if args.iter().filter_map(|arg| find(arg.to_str()?)).any(|entry| entry.makes_processes) {
        let _ = crate::container::own_binary::seal();
    }
    match dispatch(&args) {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            log::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[OsString]) -> Result<i32> {
    let options = global::describe();
    let (head, taken) = goflags::before_command(&options, args)?;
    let matches = match options.try_get_matches_from(head) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return help(&args[..taken]),
        matches => matches.map_err(|error| usage(&error, ""))?,
    };
    let global = Global::from_matches(&matches).map_err(|error| usage(&error, ""))?;
    if global.version {
        return print(version::text());
    }
    log::begin(&global)?;
    let Some((name, rest)) = args[taken..].split_first() else {
        return help(&["-h".into()]);
    };
    if name == "help" {
        return help(&args[taken..]);
    }
    let Some(entry) = name.to_str().and_then(find) else {
        return Err(Error::config(format!("there is no command {name:?} (see {PROGRAM} --help)")));
    };
    if entry.makes_processes {
        crate::container::own_binary::seal()?;
    }
    let run = match entry.does {
        Does::Group(run) => return Ok(run(rest, &global)),
        Does::Command(run) => run,
    };
    let command = (entry.command)().no_binary_name(true).bin_name(format!("{PROGRAM} {}", entry.name));
    let rest = if entry.stops_at_argument {
        goflags::before_arguments(&command, rest)?
    } else {
        goflags::of_command(&command, rest)?
    };
    match command.try_get_matches_from(rest) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => show(&error),
        matches => run(&matches.map_err(|error| usage(&error, entry.name))?, &global),
    }
}

/// The whole command line as clap has it: for the help, completions and the manual.
pub fn command() -> clap::Command {
    let mut groups = String::new();
    for (title, entries) in &COMMANDS {
        let _ = writeln!(groups, "{title}:");
        for entry in *entries {
            let about = (entry.command)().get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(groups, "  {:<10}{about}", entry.name);
        }
        groups.push('\n');
    }
    let template = format!(
        "{{name}} {}\n{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Global options, before the \
         command:\n{{options}}{{after-help}}",
        version::VERSION
    );
    let subcommands = COMMANDS.iter().flat_map(|(_, entries)| entries.iter()).map(|entry| (entry.command)());
    global::describe()
        .no_binary_name(false)
        .help_template(template)
        .override_usage("procrt [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]")
        .subcommands(subcommands)
}

/// Prints the help that `args` ask for.
fn help(args: &[OsString]) -> Result<i32> {
    let args = std::iter::once(PROGRAM.into()).chain(args.iter().cloned());
    match command().try_get_matches_from(args) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => show(&error),
        Err(error) => Err(usage(&error, "")),
        Ok(_) => Ok(0),
    }
}

/// Prints what clap calls an error and is none, in colours if the terminal has them.
fn show(help: &clap::Error) -> Result<i32> {
    help.print().context(|| "write to standard output")?;
    Ok(0)
}

/// Prints `text` on standard output.
fn print(text: impl AsRef<[u8]>) -> Result<i32> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).context(|| "write to standard output")?;
    Ok(0)
}

/// Prints `value` as JSON, with a line end.
fn print_json(value: &impl serde::Serialize, pretty: bool) -> Result<i32> {
    let text = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    let mut text = text.map_err(|error| Error::system(format!("write as JSON: {error}")))?;
    text.push(b'\n');
    print(text)
}

/// A wrong use of the command line, from clap's paragraph to one sentence.
fn usage(error: &clap::Error, command: &str) -> Error {
    let text = error.render().to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let sentence = lines.join(" ");
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    if command.is_empty() {
        return Error::config(format!("{sentence} (see {PROGRAM} --help)"));
    }
    Error::config(format!("{command}: {sentence} (see {PROGRAM} {command} --help)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_tree_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_help_names_every_command_that_is_there_and_no_other() {
        let text = command().render_long_help().to_string();
        let before = text.split("Global options").next().unwrap();
        let named: Vec<&str> = before
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        let all = "create start run exec kill pause resume update delete state list ps events sandbox spec explain seccomp features engines";
        assert_eq!(named.join(" "), all);
    }

    #[test]
    fn a_wrong_use_is_one_sentence() {
        let error = (find("create").unwrap().command)().try_get_matches_from(["create"]).unwrap_err();
        assert_eq!(
            usage(&error, "create").to_string(),
            "create: the following required arguments were not provided: <ID> (see procrt create --help)"
        );
        let error = global::describe().try_get_matches_from(["--log-format=xml"]).unwrap_err();
        assert_eq!(
            usage(&error, "").to_string(),
            "invalid value 'xml' for '--log-format <FORMAT>' [possible values: text, json] (see procrt --help)"
        );
    }
}
