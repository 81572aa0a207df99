//! `procrt engines`: how the container engines of this machine come to use procrt.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use super::global::Global;
use super::{Run, print};
use crate::error::{Context, Result};

/// Show whether this machine's engines know procrt, and how they get to
///
/// For every engine that is found by its program: whether one of its files of configuration names this procrt, and if
/// none does, the lines that register it. Nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  procrt engines
")]
pub struct Args {
    /// The directory that the engines' configuration is in
    #[arg(long, value_name = "DIR", default_value = "/etc")]
    etc: PathBuf,
}

impl Run for Args {
    const NAME: &'static str = "engines";

    fn run(self, _: &Global) -> Result<i32> {
        let own = env::current_exe().context(|| "find procrt's own program file")?;
        let own = own.to_string_lossy();
        let mut text = String::new();
        for engine in &ENGINES {
            if !engine.programs.iter().any(|program| on_path(program)) {
                continue;
            }
            match self.registered(engine, &own)? {
                Some(file) => {
                    let _ = writeln!(text, "{}: registered in {}", engine.name, file.display());
                }
                None => {
                    let target = self.etc.join(engine.files[0]);
                    let lines = engine.lines.replace("PROCRT", &own);
                    let lines: Vec<String> = lines.lines().map(|line| format!("        {line}")).collect();
                    let _ = writeln!(
                        text,
                        "{}: not registered\n    Add to {}:\n\n{}\n\n    {}",
                        engine.name,
                        target.display(),
                        lines.join("\n"),
                        engine.then
                    );
                }
            }
            text.push('\n');
        }
        if text.is_empty() {
            text.push_str("No engine is found on PATH: neither Docker, containerd, Podman, Buildah nor CRI-O.\n");
        }
        print(text.trim_end().to_owned() + "\n")
    }
}

impl Args {
    /// The file of the engine's configuration that names `own`, if one does. A directory stands for the files in it.
    fn registered(&self, engine: &Engine, own: &str) -> Result<Option<PathBuf>> {
        let quoted = format!("\"{own}\"");
        for name in engine.files {
            for file in files_at(&self.etc.join(name))? {
                let text = fs::read(&file).context(|| format!("read {}", file.display()))?;
                // The files' comments begin so, all but Docker's, which has none.
                let mut lines = text.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
                if lines.any(|line| !line.trim_start().starts_with('#') && line.contains(&quoted)) {
                    return Ok(Some(file));
                }
            }
        }
        Ok(None)
    }
}

/// An engine, and how it is told about a runtime.
struct Engine {
    name: &'static str,
    /// It is there if one of these programs is.
    programs: &'static [&'static str],
    /// Below /etc, the file to add to first: files, or directories of them, where a runtime may be registered.
    files: &'static [&'static str],
    /// What registers a runtime, with PROCRT for its file.
    lines: &'static str,
    /// What to do after that.
    then: &'static str,
}

/// The engines, with the files and members of their manuals: dockerd(8), containerd-config.toml(5), containers.conf(5),
/// crio.conf.d(5).
static ENGINES: [Engine; 4] = [
    Engine {
        name: "Docker",
        programs: &["dockerd"],
        files: &["docker/daemon.json"],
        lines: r#"{ "runtimes": { "procrt": { "path": "PROCRT" } } }"#,
        then: "Then `systemctl reload docker`, and `docker run --runtime procrt …`. To make it the default, add\n    \
               \"default-runtime\": \"procrt\".",
    },
    Engine {
        name: "containerd (Kubernetes)",
        programs: &["containerd"],
        files: &["containerd/config.toml", "containerd/conf.d"],
        lines: r#"[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.procrt]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.procrt.options]
    BinaryName = "PROCRT""#,
        then: "Then `systemctl restart containerd`, and a RuntimeClass with `handler: procrt`. (containerd 2 has\n    \
               io.containerd.cri.v1.runtime in place of io.containerd.grpc.v1.cri.) `ctr run --runc-binary FILE` needs\n    \
               no registration.",
    },
    Engine {
        name: "Podman and Buildah",
        programs: &["podman", "buildah"],
        files: &["containers/containers.conf", "containers/containers.conf.d"],
        lines: r#"[engine.runtimes]
procrt = ["PROCRT"]
[engine]
runtime_supports_json = ["crun", "runc", "procrt"]
runtime_supports_nocgroup = ["crun", "procrt"]"#,
        then: "Then `podman --runtime procrt run …`. To make it the default, add runtime = \"procrt\" to [engine].\n    \
               Buildah takes the file itself: `buildah bud --runtime FILE …`.",
    },
    Engine {
        name: "CRI-O (Kubernetes)",
        programs: &["crio"],
        files: &["crio/crio.conf.d/10-procrt.conf", "crio/crio.conf.d", "crio/crio.conf"],
        lines: r#"[crio.runtime.runtimes.procrt]
runtime_path = "PROCRT"
runtime_type = "oci"
runtime_root = "/run/procrt""#,
        then: "Then `systemctl restart crio`, and a RuntimeClass with `handler: procrt`.",
    },
];

/// The file at `path`, or those in the directory there; none if there is neither.
fn files_at(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(vec![path.to_owned()]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(|| format!("read {}", path.display())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.context(|| format!("read {}", path.display()))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether PATH has a program of that name.
fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
