//! What is there because of a container, anywhere on the machine.

use std::fs;
use std::path::Path;

/// Every mount, control group, process and file of procrt's that is there because of the container `id` of the bundle at
/// `bundle`, with its state in `store`.
pub fn of(bundle: &Path, store: &Path, id: &str) -> Vec<String> {
    let mut left = Vec::new();
    let path = bundle.to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(path)).map(|line| format!("mount {line}")));
    control_groups(Path::new("/sys/fs/cgroup"), id, &mut left);
    processes(&[id, path], &mut left);
    let store = fs::read_dir(store).into_iter().flatten().flatten();
    left.extend(store.map(|entry| format!("file {}", entry.path().display())));
    left
}

/// Processes and mounts of sandboxes that have the path of a directory in them.
pub fn of_directory(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    let mut left = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(path)).map(|line| format!("mount {line}")));
    processes(&[path], &mut left);
    left
}

fn control_groups(dir: &Path, id: &str, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            // A scope of systemd's is called PREFIX-ID.scope.
            if name.split(['.', ':']).any(|part| part == id || part.ends_with(&format!("-{id}"))) {
                left.push(format!("control group {}", entry.path().display()));
            }
            control_groups(&entry.path(), id, left);
        }
    }
}

/// Processes that are in a control group of that name, or have one of the words among their arguments or in their
/// environment.
fn processes(words: &[&str], left: &mut Vec<String>) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let ended = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
        if ended || pid == std::process::id() {
            continue;
        }
        let of = |file: &str| {
            let text = read(file);
            words.iter().any(|word| has_word(&text, word.as_bytes()))
        };
        if ["cgroup", "cmdline", "environ"].into_iter().any(of) {
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            left.push(format!("process {pid}: {command}"));
        }
    }
}

/// Whether `text` has `word` in it, not followed by another digit: `t5-1` is not in `t5-10`.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len())
        .enumerate()
        .any(|(at, window)| window == word && !text.get(at + word.len()).is_some_and(u8::is_ascii_digit))
}
