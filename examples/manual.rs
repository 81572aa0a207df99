//! `cargo run --example manual DIR`: writes procrt's manual pages, and completions for bash, zsh and fish, into DIR, all
//! from the command line's own description. `hack/install` puts them into their places.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

fn main() -> io::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), None) = (args.next(), args.next()) else {
        eprintln!("usage: manual DIR");
        std::process::exit(2);
    };
    let dir = PathBuf::from(dir);
    fs::create_dir_all(&dir)?;
    // The program has no `help` command of clap's, but one of its own.
    let command = procrt::cli::command().disable_help_subcommand(true);
    write_pages(&dir, &command, command.get_name())?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "procrt", OsStr::new(&dir))?;
    }
    Ok(())
}

/// A page for `command`, whose page is called `name`, and one for each of its commands.
fn write_pages(dir: &Path, command: &Command, name: &str) -> io::Result<()> {
    let spoken = name.replace('-', " ");
    // The pages' commands are those of the program, not the words of clap's own usage line.
    let page = command.clone().name(&*name.to_owned().leak()).bin_name(spoken).disable_help_subcommand(true);
    let nested: Vec<(String, &Command)> =
        command.get_subcommands().map(|one| (format!("{name}-{}", one.get_name()), one)).collect();
    let title = name.to_ascii_uppercase();
    let man = Man::new(page)
        .title(title)
        .section("8")
        .source(format!("procrt {}", env!("CARGO_PKG_VERSION")))
        .manual("System Manager's Manual");
    let mut file = File::create(dir.join(format!("{name}.8")))?;
    man.render_title(&mut file)?;
    man.render_name_section(&mut file)?;
    man.render_synopsis_section(&mut file)?;
    man.render_description_section(&mut file)?;
    man.render_options_section(&mut file)?;
    if !nested.is_empty() {
        man.render_subcommands_section(&mut file)?;
    }
    writeln!(file, ".SH \"EXIT STATUS\"\n{}", exit_status(name))?;
    if let Some(examples) = command.get_after_help() {
        writeln!(file, ".SH EXAMPLES\n.nf\n{}.fi", as_it_stands(&examples.to_string()))?;
    }
    let others: Vec<&str> = nested.iter().map(|(page, _)| page.as_str()).collect();
    let others = if name == "procrt" { others } else { vec!["procrt"] };
    let list: Vec<String> = others.iter().map(|page| format!("\\fB{}\\fR(8)", page.replace('-', "\\-"))).collect();
    writeln!(file, ".SH \"SEE ALSO\"\n{}", list.join(",\n"))?;
    for (page, one) in nested {
        write_pages(dir, one, &page)?;
    }
    Ok(())
}

/// Lines that troff is to leave as they are, without the word above them.
fn as_it_stands(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty() && *line != "Examples:");
    lines.map(|line| format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-"))).collect()
}

fn exit_status(page: &str) -> &'static str {
    match page {
        "procrt-sandbox-run" | "procrt-sandbox-exec" | "procrt-sandbox-image-run" => {
            "The command's own, or 128 and the number of the signal that ended it; 124 if its time was over; 137 if its \
             memory was; 99 for what this host cannot do, and nothing has run; 125 for what is wrong otherwise; 126 and 127 \
             for a program that cannot be run or is not there."
        }
        sandbox if sandbox.starts_with("procrt-sandbox") => {
            "0 if it was done, 99 for what this host cannot do, 125 for what is wrong otherwise; then a sentence on standard \
             error says why."
        }
        "procrt-run" => "The program's own, or 128 and the number of the signal that ended it; 1 if procrt failed.",
        "procrt-exec" => "The program's own, or 128 and the number of the signal that ended it; 255 if procrt failed.",
        _ => "0 if it was done, 1 if not; then a sentence on standard error says why.",
    }
}
