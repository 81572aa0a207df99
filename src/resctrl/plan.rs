//! What config.json says about shares of caches and memory bandwidth, and what of it cannot be.

use oci_spec::runtime::Spec;

use super::ResctrlPlan;
use crate::error::Faults;

/// Names that resctrl has taken for itself in a class of service's place.
const TAKEN: [&str; 3] = ["info", "mon_data", "mon_groups"];

/// Decides on `linux.intelRdt` of the container `id`.
pub fn plan(spec: &Spec, id: &str, faults: &mut Faults) -> Option<ResctrlPlan> {
    let rdt = spec.linux().as_ref()?.intel_rdt().as_ref()?;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let class = given(rdt.clos_id());
    match class.as_deref() {
        None if TAKEN.contains(&id) => {
            faults.add("linux.intelRdt.closID", format_args!("is needed, since {id:?} is resctrl's own name"));
        }
        Some("/") | None => {}
        Some(name) if TAKEN.contains(&name) || !is_file_name(name) => {
            faults.add("linux.intelRdt.closID", format_args!("{name:?} is not the name of a class of service"));
        }
        Some(_) => {}
    }
    let (l3, bandwidth) = (given(rdt.l3_cache_schema()), given(rdt.mem_bw_schema()));
    let limits =
        limits(l3.as_deref(), bandwidth.as_deref().map(|schema| ("linux.intelRdt.memBwSchema", schema)), faults);
    let schemata = rdt.schemata().clone().unwrap_or_default();
    for (index, line) in schemata.iter().enumerate() {
        if line.is_empty() || line.contains('\n') {
            faults.add(format!("linux.intelRdt.schemata[{index}]"), format_args!("{line:?} is not a line"));
        }
    }
    Some(ResctrlPlan {
        own: class.is_none(),
        class: class.or_else(|| Some(id.to_owned())).filter(|class| class != "/"),
        limits,
        schemata,
        monitoring: rdt.enable_monitoring().unwrap_or(false).then(|| id.to_owned()),
    })
}

/// The lines of `schemata` that say how much of the caches and, as `bandwidth` with its place, of the memory's bandwidth.
pub fn limits(caches: Option<&str>, bandwidth: Option<(&str, &str)>, faults: &mut Faults) -> Vec<String> {
    let caches = caches.into_iter().flat_map(str::lines).filter(|line| !line.trim().is_empty());
    let mut lines: Vec<String> = caches.map(str::to_owned).collect();
    if let Some((path, schema)) = bandwidth {
        if !schema.starts_with("MB:") {
            faults.add(path, format_args!("{schema:?} does not begin with \"MB:\""));
        }
        if schema.contains('\n') {
            faults.add(path, format_args!("{schema:?} is more than a line"));
        }
        lines.push(schema.to_owned());
    }
    lines
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "." | "..") && name.len() <= 255 && !name.contains(['/', '\n', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(rdt: &str, id: &str) -> (Option<ResctrlPlan>, String) {
        let spec = serde_json::from_str(&format!(r#"{{"ociVersion":"1.3.0","linux":{{"intelRdt":{rdt}}}}}"#)).unwrap();
        let mut faults = Faults::default();
        let plan = plan(&spec, id, &mut faults);
        (plan, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn without_a_class_it_is_the_containers_own() {
        let (plan, faults) = planned(r#"{"enableMonitoring": true}"#, "c1");
        assert_eq!(faults, "");
        let plan = plan.unwrap();
        assert_eq!(plan.class.as_deref(), Some("c1"));
        assert!(plan.own && plan.limits.is_empty() && plan.schemata.is_empty());
        assert_eq!(plan.monitoring.as_deref(), Some("c1"));
        let (plan, _) = planned(r#"{"closID": ""}"#, "c1");
        assert!(plan.unwrap().own);
    }

    #[test]
    fn the_order_of_the_lines_is_the_specifications() {
        let (plan, faults) = planned(
            r#"{"closID": "gold", "schemata": ["L2:0=f"], "memBwSchema": "MB:0=20;1=70", "l3CacheSchema": "L3:0=ff\nL3:1=f"}"#,
            "c1",
        );
        assert_eq!(faults, "");
        let plan = plan.unwrap();
        assert_eq!(plan.limits, ["L3:0=ff", "L3:1=f", "MB:0=20;1=70"]);
        assert_eq!((plan.schemata.as_slice(), plan.own), (["L2:0=f".to_owned()].as_slice(), false));
        let described = plan.describe();
        assert_eq!(described[0], r#"join the class of service "gold", made if it is not there"#);
        assert_eq!(described[3..], [r#"with "MB:0=20;1=70" in schemata"#, r#"with "L2:0=f" in schemata"#]);
    }

    #[test]
    fn the_default_class_is_a_slash() {
        let (plan, _) = planned(r#"{"closID": "/"}"#, "c1");
        let plan = plan.unwrap();
        assert_eq!((plan.class.as_deref(), plan.own), (None, false));
    }

    #[test]
    fn what_can_be_no_class_and_no_line_is_a_fault() {
        for name in ["..", ".", "a/b", "/a", "info", "mon_groups", "mon_data", "a\\nb"] {
            let (_, faults) = planned(&format!(r#"{{"closID": "{name}"}}"#), "c1");
            assert!(faults.ends_with("is not the name of a class of service"), "{name}: {faults}");
        }
        assert!(planned("{}", "info").1.contains("closID: is needed"));
        let (_, faults) = planned(r#"{"memBwSchema": "L3:0=f\nMB:0=5", "schemata": ["", "a\nb"]}"#, "c1");
        assert_eq!(
            faults,
            "linux.intelRdt.memBwSchema: \"L3:0=f\\nMB:0=5\" does not begin with \"MB:\"; \
             linux.intelRdt.memBwSchema: \"L3:0=f\\nMB:0=5\" is more than a line; \
             linux.intelRdt.schemata[0]: \"\" is not a line; linux.intelRdt.schemata[1]: \"a\\nb\" is not a line"
        );
    }
}
