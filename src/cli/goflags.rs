//! Options as runc's callers may write them, and its option parser (Go's `flag`) takes them: `-bundle x`, `--b=x`,
//! `--force=true`, a value that begins with a dash, an option given twice.
//!
//! They are rewritten into the forms that clap takes: `--bundle=x`, `--force`, or nothing for `--force=false`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, ArgAction, Command};

use crate::error::{Error, Result};

/// The options before the first argument that is none, rewritten, and how many of `args` they are.
///
/// # Errors
/// A switch with a value that is neither true nor false.
pub fn before_command(command: &Command, args: &[OsString]) -> Result<(Vec<OsString>, usize)> {
    rewrite(command, args, true)
}

/// A command's options and arguments, rewritten; options may also follow arguments.
///
/// # Errors
/// A switch with a value that is neither true nor false.
pub fn of_command(command: &Command, args: &[OsString]) -> Result<Vec<OsString>> {
    Ok(rewrite(command, args, false)?.0)
}

/// A command's options, rewritten, up to its first argument; that and all that follows is left as it is, behind `--`.
///
/// # Errors
/// A switch with a value that is neither true nor false.
pub fn before_arguments(command: &Command, args: &[OsString]) -> Result<Vec<OsString>> {
    let (mut out, taken) = rewrite(command, args, true)?;
    out.push("--".into());
    out.extend_from_slice(&args[taken..]);
    Ok(out)
}

fn rewrite(command: &Command, args: &[OsString], stop: bool) -> Result<(Vec<OsString>, usize)> {
    let mut out = Vec::with_capacity(args.len());
    let mut index = 0;
    while index < args.len() {
        let arg = &args[index];
        index += 1;
        let Some((name, value)) = flag(arg) else {
            if stop {
                // `--` ends the options and is not the command.
                return Ok((out, if arg == "--" { index } else { index - 1 }));
            }
            out.push(arg.clone());
            if arg == "--" {
                out.extend_from_slice(&args[index..]);
                break;
            }
            continue;
        };
        let known = command.get_arguments().find(|known| is_named(known, name));
        match known {
            None if name == "help" => out.push("--help".into()),
            None if name == "h" => out.push("-h".into()),
            None => out.push(arg.clone()),
            Some(known) if matches!(known.get_action(), ArgAction::Set | ArgAction::Append) => {
                let value = value.or_else(|| args.get(index).inspect(|_| index += 1).map(OsString::as_os_str));
                out.push(with_value(known, value));
            }
            Some(known) => match value.map_or(Some(true), truth) {
                Some(true) => out.push(with_value(known, None)),
                Some(false) => {}
                None => {
                    let value = value.unwrap_or_default();
                    return Err(Error::config(format!("option --{name}: {value:?} is neither true nor false")));
                }
            },
        }
    }
    Ok((out, index))
}

/// The name and value of an option, or nothing if `arg` is none.
fn flag(arg: &OsStr) -> Option<(&str, Option<&OsStr>)> {
    let bytes = arg.as_bytes();
    let bytes = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    let end = bytes.iter().position(|&b| b == b'=').unwrap_or(bytes.len());
    let name = std::str::from_utf8(&bytes[..end]).ok().filter(|name| !name.is_empty())?;
    Some((name, bytes.get(end + 1..).map(OsStr::from_bytes)))
}

fn is_named(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_short().is_some_and(|short| name.chars().eq([short]))
}

/// `--name=value`, or without a value `--name`.
fn with_value(arg: &Arg, value: Option<&OsStr>) -> OsString {
    let mut text = Vec::new();
    match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => text.extend([b"--", long.as_bytes()].concat()),
        (None, short) => text.extend(format!("-{}", short.unwrap_or_default()).into_bytes()),
    }
    if let Some(value) = value {
        text.push(b'=');
        text.extend(value.as_bytes());
    }
    OsString::from_vec(text)
}

/// A truth value as Go's `strconv.ParseBool` takes it.
fn truth(value: &OsStr) -> Option<bool> {
    match value.to_str()? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> Command {
        Command::new("x")
            .arg(Arg::new("bundle").long("bundle").short('b'))
            .arg(Arg::new("all").long("all").short('a').action(ArgAction::SetTrue))
            .arg(Arg::new("id"))
    }

    fn args(text: &str) -> Vec<OsString> {
        text.split(' ').map(Into::into).collect()
    }

    fn of(text: &str) -> String {
        let out = of_command(&described(), &args(text)).unwrap();
        out.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_form_of_an_option_is_the_same_option() {
        for form in
            ["--bundle /b id", "-bundle /b id", "--bundle=/b id", "-bundle=/b id", "-b /b id", "-b=/b id", "--b /b id"]
        {
            assert_eq!(of(form), "--bundle=/b id", "{form}");
        }
        assert_eq!(of("--bundle -x id"), "--bundle=-x id");
        assert_eq!(of("--bundle="), "--bundle=");
        assert_eq!(of("--bundle"), "--bundle");
    }

    #[test]
    fn a_switch_takes_a_truth_value_after_an_equals_sign_only() {
        for form in ["--all id", "-all id", "-a id", "--all=true id", "-a=1 id", "--all=T id"] {
            assert_eq!(of(form), "--all id", "{form}");
        }
        assert_eq!(of("--all=false id"), "id");
        assert_eq!(of("--all false"), "--all false");
        let error = of_command(&described(), &args("--all=yes")).unwrap_err();
        assert_eq!(error.to_string(), r#"option --all: "yes" is neither true nor false"#);
    }

    #[test]
    fn options_may_follow_arguments_but_not_two_dashes() {
        assert_eq!(of("id -a 9"), "id --all 9");
        assert_eq!(of("id -- -a"), "id -- -a");
        assert_eq!(of("- -9 -help -h"), "- -9 --help -h");
    }

    #[test]
    fn global_options_end_at_the_command() {
        let (head, taken) = before_command(&described(), &args("-a --bundle x create -a id")).unwrap();
        assert_eq!((head, taken), (args("--all --bundle=x"), 3));
        let (head, taken) = before_command(&described(), &args("-a -- create")).unwrap();
        assert_eq!((head, taken), (args("--all"), 2));
    }

    #[test]
    fn what_follows_the_first_argument_is_left_alone() {
        for (text, rewritten) in [
            ("-a id sh -a --bundle x", "--all -- id sh -a --bundle x"),
            ("-a -- id -- -a", "--all -- id -- -a"),
            ("id", "-- id"),
        ] {
            assert_eq!(before_arguments(&described(), &args(text)).unwrap(), args(rewritten), "{text}");
        }
    }

    #[test]
    fn a_value_may_be_no_text() {
        let value = OsString::from_vec(b"--bundle=\xff".to_vec());
        assert_eq!(of_command(&described(), std::slice::from_ref(&value)).unwrap(), [value]);
    }
}
