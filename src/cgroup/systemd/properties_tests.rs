use super::*;

fn shown(properties: &[Property]) -> Vec<String> {
    let show = |property: &Property| format!("{}={}", property.name, serde_json::to_string(&property.value).unwrap());
    properties.iter().map(show).collect()
}

fn write(file: &'static str, value: &str) -> FileWrite {
    FileWrite { file: file.into(), value: value.to_owned(), missing_ok: false, otherwise: None, field: None }
}

fn of_files(files: &[(&'static str, &str)]) -> Vec<String> {
    shown(&of_writes(&files.iter().map(|(file, value)| write(file, value)).collect::<Vec<_>>()))
}

#[test]
fn files_become_the_properties_that_systemd_writes_to_them() {
    let found = of_files(&[
        ("memory.max", "67108864"),
        ("memory.swap.max", "max"),
        ("memory.low", "1000"),
        ("cpu.weight", "59"),
        ("pids.max", "max"),
        ("io.weight", "default 300"),
        ("hugetlb.2MB.max", "0"),
    ]);
    let max = u64::MAX;
    assert_eq!(
        found,
        [
            "MemoryMax=67108864".to_owned(),
            format!("MemorySwapMax={max}"),
            "MemoryLow=1000".to_owned(),
            "CPUWeight=59".to_owned(),
            format!("TasksMax={max}"),
            "IOWeight=300".to_owned(),
        ]
    );
}

#[test]
fn a_quota_is_a_share_of_a_second_in_whole_steps() {
    let quota = |value| of_files(&[("cpu.max", value)]);
    assert_eq!(quota("50000 100000"), ["CPUQuotaPerSecUSec=500000", "CPUQuotaPeriodUSec=100000"]);
    // 33.3333 %: the property is the next step up, the file has the exact value.
    assert_eq!(quota("10000 30000"), ["CPUQuotaPerSecUSec=340000", "CPUQuotaPeriodUSec=30000"]);
    assert_eq!(quota("max 50000"), [format!("CPUQuotaPerSecUSec={}", u64::MAX).as_str(), "CPUQuotaPeriodUSec=50000"]);
}

#[test]
fn a_list_of_cpus_is_a_mask_of_bytes() {
    assert_eq!(of_files(&[("cpuset.cpus", "0-3,9")]), ["AllowedCPUs=[15,2]"]);
    assert_eq!(of_files(&[("cpuset.mems", "0")]), ["AllowedMemoryNodes=[1]"]);
    assert!(of_files(&[("cpuset.cpus", "4000000000")]).is_empty());
}

const DEVICES: &str = "Character devices:\n  1 mem\n  5 /dev/tty\n 29 fb\n\nBlock devices:\n  7 loop\n  8 sd\n";

fn of_rules(json: &str) -> Vec<String> {
    let rules: Vec<oci_spec::runtime::LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
    shown(&of_devices(&DevicePolicy::new(&rules, &mut Faults::default()), || DEVICES.to_owned()))
}

#[test]
fn device_rules_are_never_narrower_than_the_containers() {
    let found = of_rules(
        r#"[{"allow": true, "type": "b", "major": 8, "minor": 1, "access": "r"},
            {"allow": true, "type": "b", "major": 7, "access": "rw"},
            {"allow": true, "type": "c", "major": 250, "access": "r"},
            {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "r"}]"#,
    );
    assert_eq!(found[0], r#"DevicePolicy="strict""#);
    for rule in
        [r#"["/dev/block/8:1","r"]"#, r#"["block-loop","rw"]"#, r#"["char-pts","rwm"]"#, r#"["/dev/char/1:3","rwm"]"#]
    {
        assert!(found[1].contains(rule), "{rule}: {}", found[1]);
    }
    // An unknown driver's device, and the nodes that every container may make, are one rule for all character devices.
    assert!(found[1].contains(r#"["char-*","rm"]"#), "{}", found[1]);
}

#[test]
fn a_container_that_may_use_every_device_has_no_device_rules() {
    assert_eq!(of_rules(r#"[{"allow": true}]"#), [r#"DevicePolicy="auto""#]);
}

fn of_annotation(name: &str, value: &str) -> (Vec<String>, String) {
    let mut faults = Faults::default();
    let annotations =
        HashMap::from([(format!("{PREFIX}{name}"), value.to_owned()), ("other".to_owned(), "x".to_owned())]);
    let properties = of_annotations(&annotations, &mut faults);
    (shown(&properties), faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
}

#[test]
fn annotations_become_properties_and_seconds_microseconds() {
    let pairs = [
        ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec=123456789"),
        ("TimeoutStopSec", "3", "TimeoutStopUSec=3000000"),
        ("RuntimeMaxSec", "double 1.5", "RuntimeMaxUSec=1500000"),
        ("CollectMode", "'inactive'", r#"CollectMode="inactive""#),
        ("After", "['a.service']", r#"After=["a.service"]"#),
    ];
    for (name, value, property) in pairs {
        assert_eq!(of_annotation(name, value), (vec![property.to_owned()], String::new()), "{name}");
    }
}

#[test]
fn wrong_annotations_are_named() {
    let pairs = [
        ("CollectMode", "inactive", "a string has quotes"),
        ("TimeoutStopSec", "'3'", "a number of seconds is wanted"),
        ("TimeoutStopSec", "-1", "is no number of seconds"),
        ("Slice", "'a.slice'", "for linux.cgroupsPath to say"),
        ("PIDs", "@au [1]", "for linux.cgroupsPath to say"),
        ("", "1", "is not the name of a property"),
        ("A b", "1", "is not the name of a property"),
    ];
    for (name, value, why) in pairs {
        let (_, error) = of_annotation(name, value);
        assert!(error.starts_with("annotations[\"org.systemd.property.") && error.contains(why), "{name}: {error}");
    }
}

#[test]
fn annotations_come_before_what_every_scope_has_and_not_before_resources() {
    let mut faults = Faults::default();
    let mut list = of_every_scope("c", "system.slice");
    let count = list.len();
    let asked = vec![property("CollectMode", "'inactive'").unwrap(), property("MemoryMax", "uint64 1").unwrap()];
    let resources = of_writes(&[write("memory.max", "5")]);
    merge(&mut list, resources, asked, &mut faults);
    assert_eq!(list.len(), count + 2);
    assert!(shown(&list).contains(&r#"CollectMode="inactive""#.to_owned()));
    let error = faults.into_result().unwrap_err().to_string();
    assert_eq!(
        error,
        "annotations[\"org.systemd.property.MemoryMax\"]: linux.resources says the same or something else already"
    );
}
