//! `cargo run --example judge PROGRAM CASES`: judges a program that nobody trusts. Each case is a file NAME.in, which the
//! program reads, and a file NAME.out with what it should answer.
//!
//! The program sees its own source, the host's programs and libraries, and an empty /tmp; no network, no other process, no
//! other file. What it is ended for is in its outcome, so that a verdict is no guess.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use procrt::sandbox::{Bind, Outcome, Policy, Sandbox};

/// What there is to be said of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is right.
    Accepted,
    /// The answer is wrong.
    WrongAnswer,
    /// There was none in time.
    TimeLimit,
    /// It took too much memory.
    MemoryLimit,
    /// It wrote too much.
    OutputLimit,
    /// It failed, with this exit status; 128 and more for a signal.
    RuntimeError(i32),
}

/// Limits for every program: time is that of the clock on the wall, as a program that sleeps has no answer either.
fn policy(program: &Path) -> Result<Policy, Box<dyn Error>> {
    let mut policy = Policy::default();
    policy.limits.memory = Some("128M".parse()?);
    policy.limits.timeout = Some("2s".parse()?);
    policy.limits.grace = Some("50ms".parse()?);
    policy.limits.pids = Some(16);
    policy.limits.output = Some("1M".parse()?);
    policy.limits.tmpfs_size = Some("16M".parse()?);
    let name = program.file_name().ok_or("the program has no name")?;
    let inside = Path::new("/judged").join(name);
    policy.files.ro.push(Bind { source: program.to_owned(), destination: Some(inside) });
    policy.files.cwd = Some("/tmp".into());
    Ok(policy)
}

fn interpreter(program: &Path) -> &'static str {
    match program.extension().and_then(|end| end.to_str()) {
        Some("py") => "python3",
        _ => "sh",
    }
}

/// Runs `program` on one case.
///
/// # Errors
/// If the sandbox cannot be had, or a file cannot be read: that is no verdict.
pub fn judge(program: &Path, input: &Path, expected: &Path) -> Result<(Verdict, Outcome), Box<dyn Error>> {
    let policy = policy(program)?;
    let inside = policy.files.ro[0].destination.clone().unwrap_or_default();
    // A file of no name: the program cannot reach what it has written before.
    let answer = tempfile::tempfile()?;
    let outcome = Sandbox::new(policy)?
        .command(interpreter(program), [inside])
        .stdin(File::open(input)?)
        .stdout(answer.try_clone()?)
        .stderr(File::options().write(true).open("/dev/null")?)
        .run()?;
    let verdict = match &outcome {
        Outcome { timed_out: true, .. } => Verdict::TimeLimit,
        Outcome { memory_exceeded: true, .. } => Verdict::MemoryLimit,
        Outcome { output_truncated: true, .. } => Verdict::OutputLimit,
        outcome if outcome.exit_status() != 0 => Verdict::RuntimeError(outcome.exit_status()),
        _ if same(&read(answer)?, &fs::read(expected)?) => Verdict::Accepted,
        _ => Verdict::WrongAnswer,
    };
    Ok((verdict, outcome))
}

fn read(mut file: File) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Blanks at the ends of lines, and empty lines at the end, are nobody's mistake.
fn same(one: &[u8], other: &[u8]) -> bool {
    let lines = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
    };
    lines(one) == lines(other)
}

/// The cases in a directory, by name.
fn cases(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "in") {
            cases.push(path);
        }
    }
    cases.sort();
    Ok(cases)
}

fn run(program: &Path, directory: &Path) -> Result<bool, Box<dyn Error>> {
    let mut all = true;
    for input in cases(directory)? {
        let (verdict, outcome) = judge(program, &input, &input.with_extension("out"))?;
        let memory = outcome.peak_memory_bytes.map_or("-".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
        let name = input.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        println!("{name}: {verdict:?}, {:.3} s, {memory}", outcome.wall_time.as_secs_f64());
        all &= verdict == Verdict::Accepted;
    }
    Ok(all)
}

fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [program, directory] = args.as_slice() else {
        eprintln!("usage: judge PROGRAM CASES");
        return ExitCode::from(2);
    };
    match run(program, directory) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("judge: {error}");
            ExitCode::from(2)
        }
    }
}
