//! `procrt sandbox image`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::options::Options;
use super::run::Sink;
use crate::cli::global::Global;
use crate::cli::{Run, print, print_json};
use crate::error::{Error, Result};
use crate::sandbox::image::{self, BuildOptions, Cache, Engine, Ready, Source, State};
use crate::sandbox::{Caller, decide, environment, run};

/// Build a directory's Dockerfile, and run commands in the image
///
/// The image is built by the engine that is there (docker, podman or buildah, asked in this order) and unpacked as a root file
/// system below $XDG_CACHE_HOME/procrt (or ~/.cache/procrt). It is kept by a hash of the Dockerfile, what it copies
/// and the build arguments, and built again when that changes. What a build fetches from elsewhere is not in the hash:
/// --no-cache builds anyway.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = false,
    after_help = "\
Examples:
  procrt sandbox image build .
  procrt sandbox image build --check .
  procrt sandbox image run . --rw .:/src -- make -C /src
  procrt sandbox image invalidate .
"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
#[command(max_term_width = 100)]
enum Action {
    /// Build the image, if it is missing or stale, and print where its root file system is
    Build {
        #[command(flatten)]
        source: SourceArgs,

        /// Say whether it is missing, fresh or stale, and build nothing; the exit status is 0 if it is fresh, 1 if not
        #[arg(long, conflicts_with = "no_cache")]
        check: bool,

        /// Print what was done as JSON
        #[arg(long)]
        json: bool,
    },

    /// Run a command in the image, which is built if it is missing or stale
    ///
    /// The image's variables, working directory, user and entry point are those of the command, where no option says
    /// otherwise; its command is run if none is given. Options are those of sandbox run.
    Run {
        #[command(flatten)]
        source: SourceArgs,

        /// The command, after --
        #[arg(value_name = "COMMAND", last = true)]
        command: Vec<OsString>,

        /// Write how it ended and what it used, as JSON, to FILE or to the open descriptor N
        #[arg(long, value_name = "FILE|fd:N")]
        result: Option<OsString>,

        #[command(flatten)]
        options: Box<Options>,
    },

    /// Remove a directory's images from the cache
    Invalidate {
        /// The directory
        #[arg(value_name = "DIR", required_unless_present = "all")]
        directory: Option<PathBuf>,

        /// Of all directories
        #[arg(long, conflicts_with = "directory")]
        all: bool,
    },
}

#[derive(Debug, clap::Args)]
struct SourceArgs {
    /// The directory with the Dockerfile or Containerfile
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Another Dockerfile, from the top of DIR
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// The value of an ARG; that of this environment if there is none here (may be repeated)
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,

    /// Build this stage [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,

    /// Have this engine build: docker, podman or buildah [default: the first that answers]
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    engine: Option<Engine>,

    /// Build even if the image is fresh, each step anew
    #[arg(long)]
    no_cache: bool,
}

impl Run for Args {
    const NAME: &'static str = "image";
    const MAKES_PROCESSES: bool = true;

    fn run(self, _: &Global) -> Result<i32> {
        let cache = Cache::of_user()?;
        match self.action {
            Action::Build { source, check: true, json, .. } => check(&cache, &source, json),
            Action::Build { source, json, .. } => {
                let (ready, directory) = source.build(&cache)?;
                built(&ready, &directory, json)
            }
            Action::Run { source, command, result, options } => {
                let (ready, _) = source.build(&cache)?;
                let mut policy = options.policy()?;
                let secret = |name: &str| environment::secret(name).is_some();
                let (command, left_out) = ready.apply(&mut policy, command, secret)?;
                for name in left_out {
                    eprintln!(
                        "procrt: {name} of the image looks like a secret, and is left out (--allow-secret-env {name})"
                    );
                }
                let result = result.map(Sink::open).transpose()?;
                let (job, choice) = decide(&policy, &Caller::this_process()?, command)?;
                let outcome = run(&job, &choice)?;
                Sink::write_outcome(result, &outcome)?;
                Ok(outcome.exit_status())
            }
            Action::Invalidate { directory, .. } => {
                let mut text = String::new();
                for directory in image::invalidate(&cache, directory.as_deref())? {
                    let _ = writeln!(text, "removed the image of {directory:?}");
                }
                print(if text.is_empty() { "there is no image\n".to_owned() } else { text })
            }
        }
    }
}

impl SourceArgs {
    fn source(&self) -> Result<Source> {
        let mut build_args = std::collections::BTreeMap::new();
        for arg in &self.build_arg {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), std::env::var(arg).ok()),
            };
            let value = value
                .ok_or_else(|| Error::config(format!("--build-arg {arg}: no value, here or in the environment")))?;
            build_args.insert(name.to_owned(), value);
        }
        let (directory, file, target) = (self.directory.clone(), self.file.clone(), self.target.clone());
        Ok(Source { directory, file, build_args, target })
    }

    /// Builds the image unless it is fresh; says on standard error what is there, if that is not a fresh one.
    fn build(&self, cache: &Cache) -> Result<(Ready, PathBuf)> {
        let options = BuildOptions { engine: self.engine, no_cache: self.no_cache };
        let directory = &self.directory;
        let ready = image::build(cache, &self.source()?, options, |state| match state {
            State::Missing => eprintln!("procrt: there is no image of {directory:?} yet"),
            State::Stale { changes } => {
                eprintln!("procrt: the image of {directory:?} is stale: {}", changes.join(", "));
            }
            State::Fresh if options.no_cache => eprintln!("procrt: the image of {directory:?} is built anew"),
            State::Fresh => {}
        })?;
        Ok((ready, directory.clone()))
    }
}

fn engine(name: &str) -> std::result::Result<Engine, String> {
    let found = Engine::ALL.into_iter().find(|engine| engine.name() == name);
    found.ok_or_else(|| "not docker, podman or buildah".to_owned())
}

fn check(cache: &Cache, args: &SourceArgs, json: bool) -> Result<i32> {
    let state = image::state(cache, &args.source()?)?;
    if json {
        print_json(&state, true)?;
    } else {
        match &state {
            State::Missing => print("missing\n")?,
            State::Fresh => print("fresh\n")?,
            State::Stale { changes } => print(format!("stale: {}\n", changes.join(", ")))?,
        };
    }
    Ok(i32::from(state != State::Fresh))
}

fn built(ready: &Ready, directory: &std::path::Path, json: bool) -> Result<i32> {
    let image = &ready.image;
    if json {
        let report = json!({
            "directory": directory, "rootfs": ready.rootfs, "before": ready.before, "remote": ready.remote, "image": image,
        });
        return print_json(&report, true);
    }
    for address in &ready.remote {
        eprintln!("procrt: {address} is what it was when the image was built");
    }
    print(format!("{}\n", ready.rootfs.display()))
}
