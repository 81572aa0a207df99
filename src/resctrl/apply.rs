//! Making groups of resctrl, and taking them away.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{Groups, ResctrlPlan};
use crate::error::{Context, Error, Kind, Result};
use crate::host::mounts;

/// The groups of a container that is being made.
#[derive(Debug)]
pub struct Resctrl {
    /// The class of service's directory.
    class: PathBuf,
    makes_class: bool,
    own: bool,
    /// The monitoring group's directory.
    monitoring: Option<PathBuf>,
    /// What is written to the class's `schemata`.
    lines: Vec<String>,
    /// What [`Resctrl::make`] has made.
    made: Vec<PathBuf>,
    /// What a class that was there before had before that.
    former: Option<Former>,
}

impl Resctrl {
    /// Finds resctrl and the class of service that `plan` names. Nothing is made.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] if resctrl is not mounted; [`Kind::Config`] if the class must be there and is not, or has other
    /// shares than the configuration says.
    pub fn find(plan: &ResctrlPlan) -> Result<Self> {
        match mounts::of_type("resctrl")? {
            Some(root) => Self::at(&root, plan),
            None => Err(Error::unsupported("linux.intelRdt: no resctrl file system is mounted")),
        }
    }

    fn at(root: &Path, plan: &ResctrlPlan) -> Result<Self> {
        let class = plan.class.as_ref().map_or_else(|| root.to_owned(), |class| root.join(class));
        let exists = class.is_dir();
        let has_lines = !plan.limits.is_empty() || !plan.schemata.is_empty();
        if !exists && !plan.own && !has_lines {
            return Err(Error::config(format!(
                "linux.intelRdt.closID: {:?} is not there, and nothing is said of what it is to be",
                class.display().to_string()
            )));
        }
        let mut lines = plan.schemata.clone();
        if exists {
            // One that is there has its shares, which are others' too.
            check(&class, &plan.limits)?;
        } else {
            lines.splice(..0, plan.limits.iter().cloned());
        }
        let monitoring = plan.monitoring.as_ref().map(|name| class.join("mon_groups").join(name));
        if let Some(group) = monitoring.as_ref().filter(|group| group.exists()) {
            return Err(Error::new(
                Kind::Exists,
                format!("linux.intelRdt.enableMonitoring: {:?} is there already", group.display().to_string()),
            ));
        }
        Ok(Self { class, makes_class: !exists, own: plan.own, monitoring, lines, made: Vec::new(), former: None })
    }

    /// What there will be once it is made.
    pub fn planned(&self) -> Groups {
        let own = Some(self.class.clone()).filter(|_| self.makes_class && self.own);
        Groups {
            joined: [self.class.clone()].into_iter().chain(self.monitoring.clone()).collect(),
            removed: own.into_iter().chain(self.monitoring.clone()).collect(),
        }
    }

    /// What there is so far, for a making that fails: also a class that would have stayed. One that was there before has
    /// its shares again.
    pub fn unmade(self) -> Groups {
        self.former.iter().for_each(Former::put_back);
        Groups { joined: Vec::new(), removed: self.made }
    }

    /// Makes the groups, with their shares.
    ///
    /// # Errors
    /// Names the directory, or the line that was refused and why. [`Resctrl::unmade`] is then for the caller to remove.
    pub fn make(&mut self) -> Result<()> {
        if self.makes_class {
            self.make_directory(self.class.clone())?;
        } else if !self.lines.is_empty() {
            self.former = Some(Former::of(self.class.clone())?);
        }
        write_lines(&self.class, &self.lines)?;
        if let Some(monitoring) = self.monitoring.clone() {
            self.make_directory(monitoring)?;
        }
        Ok(())
    }

    /// Opens what the first process has to write `0` to, in order, once the groups are made.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_tasks(&self) -> Result<Vec<OwnedFd>> {
        self.planned().joined.iter().map(|group| open_tasks(group)).collect()
    }

    fn make_directory(&mut self, path: PathBuf) -> Result<()> {
        fs::create_dir(&path).context(|| format!("linux.intelRdt: make {:?}", path.display().to_string()))?;
        self.made.push(path);
        Ok(())
    }
}

/// Writes lines to the `schemata` of the class of service at `class`.
fn write_lines(class: &Path, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = class.join("schemata");
    let what = |line: &str| format!("linux.intelRdt: write {line:?} to {:?}", path.display().to_string());
    let mut file = File::options().write(true).open(&path).context(|| what(&lines[0]))?;
    for line in lines {
        // One at a time, so that it can be said which one was refused.
        file.write_all(format!("{line}\n").as_bytes()).context(|| match reason(class) {
            Some(reason) => format!("{} ({reason})", what(line)),
            None => what(line),
        })?;
    }
    Ok(())
}

/// What resctrl says of the last thing that it was asked to do; `class` is one of its directories, or its root.
fn reason(class: &Path) -> Option<String> {
    let files = ["info/last_cmd_status", "../info/last_cmd_status"].map(|file| class.join(file));
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok())?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text != "ok")
}

fn open_tasks(group: &Path) -> Result<OwnedFd> {
    let path = group.join("tasks");
    let file = File::options().write(true).open(&path);
    Ok(file.context(|| format!("linux.intelRdt: open {:?}", path.display().to_string()))?.into())
}

/// Sees to it that the class of service at `class` has the shares that `lines` say.
fn check(class: &Path, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = class.join("schemata");
    let shown = path.display().to_string();
    let current = fs::read_to_string(&path).context(|| format!("linux.intelRdt: read {shown:?}"))?;
    match lines.iter().find(|line| !is_in(line, &current)) {
        None => Ok(()),
        Some(line) => Err(Error::config(format!("linux.intelRdt: {line:?} is not what {shown:?} has"))),
    }
}

/// Whether every share of `line` is in the text of a `schemata`. That has spaces before resources and zeros before numbers.
fn is_in(line: &str, current: &str) -> bool {
    let Some((resource, shares)) = line.split_once(':') else { return false };
    let mut lines = current.lines().filter_map(|line| line.split_once(':'));
    let Some((_, has)) = lines.find(|(name, _)| name.trim() == resource.trim()) else { return false };
    let parts = |text: &str| -> Vec<(String, String)> {
        let share = |part: &str| {
            let (domain, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
            (domain.trim().to_owned(), value)
        };
        text.split(';').map(share).collect()
    };
    let has = parts(has);
    parts(shares).iter().all(|share| has.contains(share))
}

/// What a class of service had before [`Groups::change`].
#[derive(Debug)]
pub struct Former {
    class: PathBuf,
    lines: Vec<String>,
}

impl Former {
    fn of(class: PathBuf) -> Result<Self> {
        let path = class.join("schemata");
        let text = fs::read_to_string(&path).context(|| format!("read {:?}", path.display().to_string()))?;
        Ok(Self { class, lines: text.lines().map(|line| line.trim().to_owned()).collect() })
    }

    /// Writes it again.
    pub fn put_back(&self) {
        if let Err(error) = write_lines(&self.class, &self.lines) {
            log::warn!("put back: {error}");
        }
    }
}

impl Groups {
    /// Changes the shares of the container's class of service: writes all of `lines` to its `schemata`, or changes nothing.
    ///
    /// # Errors
    /// Names the line that was refused, and why.
    pub fn change(&self, lines: &[String]) -> Result<Former> {
        let former = Former::of(self.joined.first().cloned().unwrap_or_default())?;
        match write_lines(&former.class, lines) {
            Ok(()) => Ok(former),
            Err(error) => {
                former.put_back();
                Err(error)
            }
        }
    }

    /// Opens what a process that joins the container has to write `0` to, in order. A group that somebody has removed has
    /// none of the container's processes in it: it is passed over.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_tasks(&self) -> Result<Vec<OwnedFd>> {
        let there = self.joined.iter().filter(|group| group.exists());
        there.map(|group| open_tasks(group)).collect()
    }

    /// Removes what is removed with the container; what is gone already is not missed.
    ///
    /// # Errors
    /// As rmdir(2).
    pub fn remove(&self) -> Result<()> {
        for group in self.removed.iter().rev() {
            match fs::remove_dir(group) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).context(|| format!("remove {:?}", group.display().to_string()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like resctrl with the class `gold`.
    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("info")).unwrap();
        fs::write(dir.path().join("info/last_cmd_status"), "ok\n").unwrap();
        for class in ["", "gold"] {
            fill(&dir.path().join(class), "    MB:0= 20;1= 70\n    L3:0=00ff;1=ffff\n");
        }
        dir
    }

    /// What the kernel puts into a class that is made.
    fn fill(class: &Path, schemata: &str) {
        fs::create_dir_all(class.join("mon_groups")).unwrap();
        fs::write(class.join("schemata"), schemata).unwrap();
        fs::write(class.join("tasks"), "").unwrap();
    }

    fn plan(class: Option<&str>) -> ResctrlPlan {
        let class = class.map(str::to_owned);
        ResctrlPlan { own: false, class, limits: Vec::new(), schemata: Vec::new(), monitoring: None }
    }

    fn own() -> ResctrlPlan {
        ResctrlPlan { own: true, ..plan(Some("c1")) }
    }

    fn find(tree: &tempfile::TempDir, plan: &ResctrlPlan) -> Result<Resctrl> {
        Resctrl::at(tree.path(), plan)
    }

    fn lines(list: &[&str]) -> Vec<String> {
        list.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_containers_own_class_is_made_and_removed_with_it() {
        let tree = tree();
        let mut resctrl = find(&tree, &own()).unwrap();
        let class = tree.path().join("c1");
        let groups = resctrl.planned();
        assert_eq!(groups, Groups { joined: vec![class.clone()], removed: vec![class.clone()] });
        resctrl.make().unwrap();
        assert!(class.is_dir());
        assert_eq!(resctrl.unmade().removed, std::slice::from_ref(&class));
        groups.remove().unwrap();
        assert!(!class.exists());
        groups.remove().unwrap();
    }

    #[test]
    fn a_named_class_is_made_only_with_something_to_write_and_stays() {
        let tree = tree();
        let error = find(&tree, &plan(Some("silver"))).unwrap_err().to_string();
        assert!(error.ends_with("/silver\" is not there, and nothing is said of what it is to be"), "{error}");
        let plan = ResctrlPlan { limits: lines(&["L3:0=f"]), ..plan(Some("silver")) };
        let resctrl = find(&tree, &plan).unwrap();
        assert!(resctrl.makes_class);
        assert_eq!(resctrl.planned().removed, Vec::<PathBuf>::new());
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let tree = tree();
        let shares = ResctrlPlan { limits: lines(&["L3:0=f", "MB:0=10"]), schemata: lines(&["L2:0=1"]), ..own() };
        let resctrl = find(&tree, &shares).unwrap();
        fill(&tree.path().join("c1"), "");
        write_lines(&resctrl.class, &resctrl.lines).unwrap();
        assert_eq!(fs::read_to_string(tree.path().join("c1/schemata")).unwrap(), "L3:0=f\nMB:0=10\nL2:0=1\n");
        // Without any, the file is not even opened.
        fs::remove_file(tree.path().join("gold/schemata")).unwrap();
        find(&tree, &plan(Some("gold"))).unwrap().make().unwrap();
    }

    #[test]
    fn a_class_that_is_there_must_have_the_shares_that_are_configured() {
        let tree = tree();
        for (limits, fits) in [
            (vec!["L3:0=ff;1=FFFF", "MB:0=20;1=70"], true),
            (vec!["L3:1=ffff"], true),
            (vec!["MB:1=070"], true),
            (vec!["L3:0=f"], false),
            (vec!["L3:2=ff"], false),
            (vec!["MB:0=20", "L2:0=f"], false),
        ] {
            let plan = ResctrlPlan { limits: lines(&limits), ..plan(Some("gold")) };
            let found = find(&tree, &plan);
            assert_eq!(found.is_ok(), fits, "{limits:?}: {found:?}");
            // They are not written again: `schemata` alone is.
            assert!(found.is_err() || found.unwrap().lines.is_empty());
        }
        let error = find(&tree, &ResctrlPlan { limits: lines(&["L3:0=f"]), ..plan(Some("gold")) }).unwrap_err();
        assert!(error.to_string().ends_with("/gold/schemata\" has"), "{error}");
        let plan = ResctrlPlan { schemata: lines(&["L3:0=f"]), ..plan(Some("gold")) };
        find(&tree, &plan).unwrap().make().unwrap();
        assert!(fs::read_to_string(tree.path().join("gold/schemata")).unwrap().starts_with("L3:0=f\n"));
    }

    #[test]
    fn a_monitoring_group_is_below_the_class_and_always_the_containers_own() {
        let tree = tree();
        for class in [None, Some("gold")] {
            let plan = ResctrlPlan { monitoring: Some("c1".to_owned()), ..plan(class) };
            let mut resctrl = find(&tree, &plan).unwrap();
            let class = tree.path().join(class.unwrap_or_default());
            let group = class.join("mon_groups/c1");
            let planned = resctrl.planned();
            // First the class, then the group, which is the order in which the kernel takes them.
            assert_eq!(
                planned.joined.iter().map(|path| path.join("x")).collect::<Vec<_>>(),
                [class.join("x"), group.join("x")]
            );
            resctrl.make().unwrap();
            assert!(group.is_dir());
            assert!(find(&tree, &plan).unwrap_err().to_string().ends_with("mon_groups/c1\" is there already"));
            planned.remove().unwrap();
            assert!(!group.exists() && class.exists());
        }
    }

    #[test]
    fn a_process_enters_by_the_tasks_of_all_groups() {
        let tree = tree();
        let resctrl = find(&tree, &ResctrlPlan { monitoring: Some("c1".to_owned()), ..plan(Some("gold")) }).unwrap();
        assert!(resctrl.open_tasks().unwrap_err().to_string().contains("mon_groups/c1/tasks"));
        fill(&tree.path().join("gold/mon_groups/c1"), "");
        assert_eq!(resctrl.open_tasks().unwrap().len(), 2);
        let groups = resctrl.planned();
        assert_eq!(groups.open_tasks().unwrap().len(), 2);
        // Processes that join later do without a group that was removed meanwhile.
        fs::remove_dir_all(tree.path().join("gold/mon_groups/c1")).unwrap();
        assert_eq!(groups.open_tasks().unwrap().len(), 1);
    }

    #[test]
    fn shares_are_changed_and_put_back() {
        let tree = tree();
        let groups = find(&tree, &plan(Some("gold"))).unwrap().planned();
        let path = tree.path().join("gold/schemata");
        let before = fs::read_to_string(&path).unwrap();
        let former = groups.change(&lines(&["L3:0=1", "MB:0=50"])).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("L3:0=1\nMB:0=50\n"));
        // A kernel's file is not overwritten from its begin, so that here something of what was changed may stay behind.
        former.put_back();
        let trimmed: Vec<&str> = before.lines().map(str::trim).collect();
        assert!(fs::read_to_string(&path).unwrap().starts_with(&trimmed.join("\n")));
        fs::remove_file(&path).unwrap();
        assert!(groups.change(&lines(&["L3:0=1"])).unwrap_err().to_string().starts_with("read "));
    }

    #[test]
    fn a_class_that_was_there_has_its_shares_again_if_the_container_is_not_made() {
        let tree = tree();
        let shares = ResctrlPlan { schemata: lines(&["L3:0=3"]), ..plan(Some("gold")) };
        let mut resctrl = find(&tree, &shares).unwrap();
        let text = || fs::read_to_string(tree.path().join("gold/schemata")).unwrap();
        resctrl.make().unwrap();
        assert!(text().starts_with("L3:0=3\n"), "{}", text());
        // A file is written over where the kernel would take lines.
        assert!(resctrl.unmade().removed.is_empty());
        assert!(text().starts_with("MB:0= 20;1= 70\nL3:0=00ff;1=ffff\n"), "{}", text());
    }

    #[test]
    fn what_was_made_before_a_failure_is_known() {
        let tree = tree();
        let shares = ResctrlPlan { schemata: lines(&["L3:0=0"]), monitoring: Some("c1".to_owned()), ..own() };
        let mut resctrl = find(&tree, &shares).unwrap();
        fs::write(tree.path().join("info/last_cmd_status"), "Mask out of range\n").unwrap();
        // Here nobody puts a `schemata` into the new directory.
        let error = resctrl.make().unwrap_err().to_string();
        assert!(error.starts_with("linux.intelRdt: write \"L3:0=0\" to "), "{error}");
        assert_eq!(reason(&resctrl.class).as_deref(), Some("Mask out of range"));
        assert_eq!(reason(tree.path()).as_deref(), Some("Mask out of range"));
        let made = resctrl.unmade();
        assert_eq!(made.removed, [tree.path().join("c1")]);
        made.remove().unwrap();
        assert!(!tree.path().join("c1").exists());
    }
}
