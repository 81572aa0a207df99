//! `procrt sandbox export`.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::cli::global::Global;
use crate::cli::{Run, print, print_json};
use crate::error::Result;
use crate::sandbox::{ExportOptions, Exported, NotPacked, Size, export};

/// Pack a directory for others to read
///
/// Left out are files whose names look like secrets' (.env, id_rsa, *.pem, credentials* and more), version control,
/// dependencies and caches that can be had again, and what is beyond the limits. Symbolic links that lead out of the
/// directory, devices, sockets and named pipes are refused. What went in and what did not is printed. The same directory gives the
/// same archive, byte by byte.
///
/// Names are all that is looked at: a secret in a file of another name goes in.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  procrt sandbox export work work.tar.gz
  procrt sandbox export --files 1000 --total-size 20M --include certs/test.pem . /tmp/all.tar.gz
  procrt sandbox export --strict --json work work.tar.gz | jq .sha256
")]
pub struct Args {
    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// The archive, a gzipped tar; replaced if it is there
    #[arg(value_name = "ARCHIVE.tar.gz")]
    archive: PathBuf,

    /// At most this many files and links
    #[arg(long, value_name = "COUNT", default_value_t = ExportOptions::default().files)]
    files: usize,

    /// No file that is larger
    #[arg(long, value_name = "SIZE", default_value_t = ExportOptions::default().file_size)]
    file_size: Size,

    /// At most so much in all
    #[arg(long, value_name = "SIZE", default_value_t = ExportOptions::default().total_size)]
    total_size: Size,

    /// Take PATH, from the top of DIR, whatever its name looks like (may be repeated)
    #[arg(long, value_name = "PATH")]
    include: Vec<PathBuf>,

    /// Leave PATH out, from the top of DIR (may be repeated)
    #[arg(long, value_name = "PATH")]
    exclude: Vec<PathBuf>,

    /// Fail, and leave no archive, if a file is beyond the limits or refused
    #[arg(long)]
    strict: bool,

    /// Print what went in and what did not as JSON
    #[arg(long)]
    json: bool,
}

impl Run for Args {
    const NAME: &'static str = "export";

    fn run(self, _: &Global) -> Result<i32> {
        let options = ExportOptions {
            files: self.files,
            file_size: self.file_size,
            total_size: self.total_size,
            include: self.include.into_iter().collect(),
            exclude: self.exclude.into_iter().collect(),
            strict: self.strict,
        };
        let exported = export(&self.directory, &self.archive, &options)?;
        if self.json { print_json(&exported, true) } else { print(text(&exported)) }
    }
}

fn text(exported: &Exported) -> String {
    let (count, bytes) = (exported.files.len(), exported.bytes);
    // What others have called their files must not move the cursor.
    let mut text = format!("packed {count} files, {bytes} bytes, into {:?}\n", exported.archive);
    for file in &exported.files {
        let _ = match &file.link {
            Some(target) => writeln!(text, "  {} -> {}", plain(&file.path), plain(target)),
            None => writeln!(text, "  {} ({} bytes)", plain(&file.path), file.bytes),
        };
    }
    for (title, list) in [("left out", &exported.left_out), ("refused", &exported.refused)] {
        let _ = if list.is_empty() { Ok(()) } else { writeln!(text, "{title} {}", list.len()) };
        for NotPacked { path, reason, .. } in list {
            let _ = writeln!(text, "  {}: {reason}", plain(path));
        }
    }
    let _ = writeln!(text, "sha256 {}, {} bytes", exported.sha256, exported.archive_bytes);
    text
}

fn plain(path: &str) -> String {
    path.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}
