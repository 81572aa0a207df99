//! A directory for a store, and what is left in it.

use super::*;

#[test]
fn an_id_is_taken_once_and_free_when_removed() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().join("a/b"));
    let entry = store.claim("x").unwrap();
    assert_eq!(store.claim("x").unwrap_err().kind(), Kind::Exists);
    assert_eq!(store.ids().unwrap(), ["x"]);
    entry.remove().unwrap();
    assert_eq!(store.find("x").unwrap_err().kind(), Kind::NotFound);
    assert!(store.ids().unwrap().is_empty());
}

#[test]
fn a_record_counts_line_by_line_when_its_end_is_written() {
    let root = tempfile::tempdir().unwrap();
    let entry = Store::new(root.path()).claim("x").unwrap();
    assert!(entry.read().unwrap().is_none());
    let file = root.path().join("x").join(RECORD);
    std::fs::write(&file, "{\"id\":").unwrap();
    assert!(entry.read().unwrap().is_none());
    std::fs::remove_file(&file).unwrap();
    let record = Record {
        id: "x".into(),
        bundle: "/b".into(),
        rootfs: "/b/r".into(),
        begun: 1,
        created: String::new(),
        annotations: std::collections::BTreeMap::new(),
        process: None,
        cgroups: crate::host::cgroups::ContainerCgroups(Vec::new()),
        unit: None,
        resources: None,
        resctrl: None,
        subordinate: None,
        joining: crate::init::Container::default(),
        mounts_on_host: None,
        own_pids: false,
        nothing_to_start: false,
        poststart: Vec::new(),
        poststop: Vec::new(),
    };
    entry.write(&record).unwrap();
    assert_eq!(entry.read().unwrap().unwrap().process, None);
    let process = ProcessId { pid: 7, start_time: 8 };
    entry.write_process(process).unwrap();
    assert_eq!(entry.read().unwrap().unwrap().process, Some(process));
    let another = Record { begun: 9, process: Some(process), ..record };
    entry.replace(&another).unwrap();
    let read = entry.read().unwrap().unwrap();
    assert_eq!((read.begun, read.process), (9, Some(process)));
    entry.remove().unwrap();
}

#[test]
fn a_gate_is_none_any_more_when_it_is_opened_and_what_is_left_of_it_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let entry = Store::new(root.path()).claim("x").unwrap();
    entry.make_gate().unwrap();
    assert!(entry.has_gate());
    entry.open_gate().unwrap();
    assert!(!entry.has_gate());
    assert_eq!(std::fs::read_dir(root.path().join("x")).unwrap().count(), 0);
    std::fs::write(root.path().join("x").join(OPENED), "").unwrap();
    entry.remove().unwrap();
}

#[test]
fn a_container_is_met_if_it_is_there_and_its_socket_is_removed_with_it() {
    let root = tempfile::tempdir().unwrap();
    let entry = Store::new(root.path()).claim("x").unwrap();
    assert!(entry.meet().unwrap().is_none());
    let socket = entry.make_meeting().unwrap();
    assert!(entry.meet().unwrap().is_some());
    drop(socket);
    assert!(entry.meet().unwrap().is_none());
    entry.make_gate().unwrap();
    entry.remove().unwrap();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_container_that_is_not_there_is_named_as_engines_look_for_it() {
    let store = Store::new("/nonexistent/procrt");
    assert_eq!(store.find("x").unwrap_err().to_string(), r#""x": container does not exist"#);
}

#[test]
fn whoever_waited_for_the_lock_of_a_removed_container_finds_none() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path());
    let entry = store.claim("x").unwrap();
    let waiting = store.find("x").unwrap();
    entry.remove().unwrap();
    drop(entry);
    assert_eq!(waiting.lock().unwrap_err().kind(), Kind::NotFound);
}
