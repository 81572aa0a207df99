//! `linux.intelRdt` where there is no resctrl: nothing of it can be had, so nothing is made. What is done with one is tested
//! in the library, on a directory that looks like it.

mod support;

use serde_json::json;
use support::{Bundle, skipped};

#[test]
fn without_resctrl_a_configuration_that_asks_for_it_is_refused() {
    if std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
        return skipped("this machine has resctrl mounted");
    }
    for rdt in [
        json!({}),
        json!({"closID": "/"}),
        json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=10"}),
        json!({"schemata": ["L3:0=f"], "enableMonitoring": true}),
    ] {
        let bundle = Bundle::sleeping().set("/linux/intelRdt", rdt.clone());
        for command in ["create", "run"] {
            let error = support::Outcome::of(&mut bundle.making(command, &[])).refused();
            assert_eq!(error, "linux.intelRdt: no resctrl file system is mounted", "{rdt}");
        }
        assert!(!bundle.store().exists());
    }
}

#[test]
fn what_can_be_no_class_of_service_is_refused_by_its_path() {
    let bundle = Bundle::sleeping().set("/linux/intelRdt", json!({"closID": "../x", "memBwSchema": "L3:0=f"}));
    let error = bundle.create().refused();
    assert_eq!(
        error,
        r#"linux.intelRdt.closID: "../x" is not the name of a class of service; linux.intelRdt.memBwSchema: "L3:0=f" does not begin with "MB:""#
    );
}

#[test]
fn what_would_be_done_with_resctrl_is_explained() {
    let bundle = Bundle::sleeping().set("/linux/intelRdt", json!({"closID": "gold", "schemata": ["L3:0=f"]}));
    bundle.write();
    let text = bundle.call(&["explain", "--bundle", bundle.path().to_str().unwrap()]).ok();
    assert!(text.contains("Share caches and memory bandwidth"), "{text}");
    assert!(text.contains(r#"with "L3:0=f" in schemata"#), "{text}");
}
