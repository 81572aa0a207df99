use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

struct Case {
    dir: tempfile::TempDir,
    out: tempfile::TempDir,
}

impl Case {
    fn new(files: &[(&str, &str)]) -> Self {
        let case = Self { dir: tempfile::tempdir().unwrap(), out: tempfile::tempdir().unwrap() };
        for (path, content) in files {
            case.write(path, content);
        }
        case
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn archive(&self) -> PathBuf {
        self.out.path().join("a.tar.gz")
    }

    fn export(&self, options: &ExportOptions) -> Exported {
        export(self.dir.path(), &self.archive(), options).unwrap()
    }
}

/// What an archive has: paths, with content, target or "/" of a directory.
fn unpacked(archive: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(archive).unwrap()));
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = String::new();
            match entry.header().entry_type() {
                tar::EntryType::Regular => drop(entry.read_to_string(&mut content).unwrap()),
                tar::EntryType::Symlink => {
                    content = format!("-> {}", entry.link_name().unwrap().unwrap().display());
                }
                _ => content.push('/'),
            }
            (path, content)
        })
        .collect()
}

fn reasons(list: &[NotPacked]) -> BTreeMap<&str, &str> {
    list.iter().map(|file| (file.path.as_str(), file.reason.as_str())).collect()
}

#[test]
fn files_go_in_and_secrets_dependencies_and_version_control_do_not() {
    let case = Case::new(&[
        ("src/main.py", "print(1)"),
        ("README", "read"),
        (".env", "TOKEN=1"),
        ("deep/.ssh/known_hosts", "x"),
        (".git/config", "x"),
        ("node_modules/a/index.js", "x"),
        ("build/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ("build/out", "x"),
    ]);
    let exported = case.export(&ExportOptions::default());
    let archive = unpacked(&case.archive());
    let expected = [("README", "read"), ("src/", "/"), ("src/main.py", "print(1)")];
    let archive: Vec<_> = archive.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    let same = archive.iter().map(|(path, content)| (path.trim_end_matches('/'), *content));
    assert!(same.eq(expected.map(|(path, content)| (path.trim_end_matches('/'), content))), "{archive:?}");
    let left = reasons(&exported.left_out);
    let names: Vec<_> = left.keys().copied().collect();
    assert_eq!(names, [".env", ".git/", "build/", "deep/.ssh/", "node_modules/"]);
    assert_eq!(left[".env"], "its name looks like a secret's");
    assert!(exported.refused.is_empty());
    assert_eq!((exported.bytes, exported.files.len()), (12, 2));
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let (one, two) = (Case::new(&[("b", "2"), ("a/x", "1")]), Case::new(&[("a/x", "1"), ("b", "2")]));
    fs::set_permissions(two.dir.path().join("b"), fs::Permissions::from_mode(0o600)).unwrap();
    let (first, second) = (one.export(&ExportOptions::default()), two.export(&ExportOptions::default()));
    assert_eq!(first.sha256, second.sha256);
    let bytes = fs::read(one.archive()).unwrap();
    assert_eq!(bytes, fs::read(two.archive()).unwrap());
    assert_eq!(bytes.len() as u64, first.archive_bytes);
    fs::set_permissions(two.dir.path().join("b"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_ne!(two.export(&ExportOptions::default()).sha256, first.sha256);
}

#[test]
fn limits_leave_out_what_is_too_much() {
    let case = Case::new(&[("a", "12345"), ("b", "1234"), ("c", "1234"), ("d", "12"), ("e", "")]);
    let options = ExportOptions { files: 3, file_size: Size(4), total_size: Size(6), ..ExportOptions::default() };
    let exported = case.export(&options);
    let names: Vec<_> = exported.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["b", "d", "e"]);
    let left = reasons(&exported.left_out);
    assert_eq!((left["a"], left["c"]), ("larger than 4", "all together would be more than 6"));
    let options = ExportOptions { files: 1, ..ExportOptions::default() };
    assert_eq!(reasons(&case.export(&options).left_out)["b"], "more than 1 files");
    let strict = ExportOptions { strict: true, ..options };
    let before = fs::read(case.archive()).unwrap();
    let error = export(case.dir.path(), &case.archive(), &strict).unwrap_err();
    assert_eq!(error.to_string(), "\"b\": more than 1 files");
    assert_eq!(fs::read(case.archive()).unwrap(), before);
    assert_eq!(fs::read_dir(case.out.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn links_that_leave_the_tree_and_special_files_are_refused() {
    let case = Case::new(&[("d/file", "x")]);
    let at = |name: &str| case.dir.path().join(name);
    symlink("../d/file", at("d/inside")).unwrap();
    symlink("../../etc/passwd", at("d/up")).unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink("d/../../x", at("middle")).unwrap();
    nix::unistd::mkfifo(&at("pipe"), Mode::from_bits_retain(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let device = nix::sys::stat::mknod(
        &at("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        Mode::from_bits_retain(0o666),
        nix::sys::stat::makedev(1, 3),
    );
    let exported = case.export(&ExportOptions::default());
    let mut refused: Vec<_> = reasons(&exported.refused).into_keys().collect();
    refused.retain(|name| *name != "null" || device.is_ok());
    let mut expected = vec!["absolute", "d/up", "middle", "null", "pipe", "socket"];
    expected.retain(|name| *name != "null" || device.is_ok());
    assert_eq!(refused, expected);
    assert_eq!(unpacked(&case.archive())["d/inside"], "-> ../d/file");
}

#[test]
fn the_archive_in_the_directory_is_left_out() {
    let case = Case::new(&[("a", "1"), ("out/x", "2")]);
    let archive = case.dir.path().join("out/a.tar.gz");
    let first = export(case.dir.path(), &archive, &ExportOptions::default()).unwrap();
    let second = export(case.dir.path(), &archive, &ExportOptions::default()).unwrap();
    assert_eq!(first.sha256, second.sha256);
    assert_eq!(reasons(&second.left_out)["out/a.tar.gz"], "the archive itself");
    assert!(
        !fs::read_dir(case.dir.path().join("out"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with(".procrt") })
    );
}

#[test]
fn a_link_in_the_directory_does_not_say_where_the_archive_goes() {
    let case = Case::new(&[("a", "1")]);
    symlink(case.out.path(), case.dir.path().join("out")).unwrap();
    let error = export(case.dir.path(), &case.dir.path().join("out/a.tar.gz"), &ExportOptions::default());
    assert_eq!(error.unwrap_err().errno(), Some(libc::ELOOP));
    assert_eq!(fs::read_dir(case.out.path()).unwrap().count(), 0);
}

#[test]
fn what_is_included_goes_in_whatever_its_name() {
    let case = Case::new(&[("node_modules/a/x.js", "1"), ("node_modules/b", "2"), ("cert.pem", "3"), ("k.pem", "4")]);
    let include = ["cert.pem", "node_modules/a", "node_modules/a/x.js"].map(PathBuf::from).into();
    let options = ExportOptions { include, ..ExportOptions::default() };
    let exported = case.export(&options);
    let names: Vec<_> = exported.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["cert.pem", "node_modules/a/x.js"]);
    let options = ExportOptions { exclude: ["a", "../b"].map(PathBuf::from).into(), ..ExportOptions::default() };
    assert!(export(case.dir.path(), &case.archive(), &options).is_err());
}

#[test]
fn long_names_and_bytes_that_are_no_text_survive() {
    let case = Case::new(&[]);
    let long = "n".repeat(200);
    case.write(&format!("{long}/{long}"), "deep");
    let exported = case.export(&ExportOptions::default());
    assert_eq!(exported.files[0].path, format!("{long}/{long}"));
    assert_eq!(unpacked(&case.archive())[&format!("{long}/{long}")], "deep");
}

#[test]
fn a_tree_that_changes_meanwhile_never_gives_what_is_outside() {
    let case = Case::new(&[("d/file", "inside")]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "outside").unwrap();
    let (real, link, kept) = (case.dir.path().join("d"), case.dir.path().join("l"), case.dir.path().join("k"));
    symlink(outside.path(), &link).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::rename(&real, &kept).and_then(|()| fs::rename(&link, &real));
                let _ = fs::rename(&real, &link).and_then(|()| fs::rename(&kept, &real));
            }
        });
        for _ in 0..200 {
            let _ = export(case.dir.path(), &case.archive(), &ExportOptions::default()).unwrap();
            assert!(!unpacked(&case.archive()).values().any(|content| content == "outside"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
