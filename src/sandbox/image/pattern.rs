//! Patterns of paths, as `COPY` and `.dockerignore` have them: those of Go's path.Match, and `**` for any directories.

/// A pattern, cut at its slashes; `.` and empty parts are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// The pattern of that text; None if it goes up beyond where it begins.
    pub fn new(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()?),
                part => parts.push(part.to_owned()),
            }
        }
        Some(Self(parts))
    }

    /// Whether it is the directory itself that all paths start from.
    pub fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `path`, or a directory that it is in, is meant.
    pub fn covers(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        self.is_top() || self.walk(&parts, |_| false)[1..].contains(&true)
    }

    /// Whether `path` is meant, or on the way to what is.
    pub fn leads_through(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let mut through = false;
        self.walk(&parts, |reached| {
            through |= reached[parts.len()];
            through
        });
        through
    }

    /// After how many names of `path` the pattern's end can be reached. `stop` sees the same after each part of the pattern.
    /// The time that it takes is the product of both lengths, whatever the pattern.
    fn walk(&self, path: &[&str], mut stop: impl FnMut(&[bool]) -> bool) -> Vec<bool> {
        let mut reached = vec![false; path.len() + 1];
        reached[0] = true;
        for part in &self.0 {
            if part == "**" {
                let first = reached.iter().position(|reached| *reached).unwrap_or(reached.len());
                reached[first..].fill(true);
            } else {
                for at in (0..path.len()).rev() {
                    reached[at + 1] = reached[at] && one(part, path[at]);
                }
                reached[0] = false;
            }
            if stop(&reached) {
                break;
            }
        }
        reached
    }
}

/// Whether a name without slashes is meant by a pattern without slashes.
fn one(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // What follows the last star is tried at each place: no more is needed, and it takes no time to speak of.
    let (mut p, mut n, mut star) = (0, 0, None);
    loop {
        if p == pattern.len() && n == name.len() {
            return true;
        }
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        match name.get(n).and_then(|c| single(&pattern[p..], *c)) {
            Some(length) => (p, n) = (p + length, n + 1),
            None => match star {
                Some((after, at)) if at < name.len() => {
                    star = Some((after, at + 1));
                    (p, n) = (after, at + 1);
                }
                _ => return false,
            },
        }
    }
}

/// How long the pattern's first piece is, if it means the character `c`.
fn single(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '\\' => (*pattern.get(1)? == c).then_some(2),
        '[' => {
            let end = 2 + pattern.get(2..)?.iter().position(|one| *one == ']')?;
            let inside = &pattern[1..end];
            let (negated, inside) = match inside.split_first() {
                Some(('^' | '!', rest)) => (true, rest),
                _ => (false, inside),
            };
            let mut found = false;
            let mut at = 0;
            while at < inside.len() {
                match inside.get(at + 1..at + 3) {
                    Some(['-', last]) => {
                        found |= (inside[at]..=*last).contains(&c);
                        at += 3;
                    }
                    _ => {
                        found |= inside[at] == c;
                        at += 1;
                    }
                }
            }
            (found != negated).then_some(end + 1)
        }
        plain => (*plain == c).then_some(1),
    }
}

/// The files that a `.dockerignore` keeps out of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored(Vec<(Pattern, bool)>);

impl Ignored {
    /// Reads one. A pattern that goes up beyond its beginning means nothing.
    pub fn read(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().filter(|line| !line.starts_with('#')).map(str::trim);
        let patterns = lines.filter_map(|line| {
            let (pattern, back) = line.strip_prefix('!').map_or((line, false), |pattern| (pattern.trim(), true));
            let pattern = Pattern::new(pattern).filter(|pattern| !pattern.is_top())?;
            Some((pattern, back))
        });
        Self(patterns.collect())
    }

    /// Whether the last pattern about `path` says that it stays out.
    pub fn has(&self, path: &str) -> bool {
        self.0.iter().rev().find(|(pattern, _)| pattern.covers(path)).is_some_and(|(_, back)| !back)
    }

    /// Whether a file in a directory that stays out may come back in.
    pub fn takes_back(&self) -> bool {
        self.0.iter().any(|(_, back)| *back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_docker() {
        let covers = |pattern: &str, path: &str| Pattern::new(pattern).unwrap().covers(path);
        for (pattern, path) in [
            (".", "a/b"),
            ("/src/", "src/main.rs"),
            ("./*.py", "main.py"),
            ("*", "d/e"),
            ("d*/f?le", "dir/file"),
            ("[a-c]x[^y]", "bxz"),
            ("**/*.o", "a/b/c.o"),
            ("**/*.o", "c.o"),
            ("a/**", "a/b/c"),
            ("a/../b", "b"),
            ("\\*", "*"),
            ("a*b*c", "axxbxxbc"),
        ] {
            assert!(covers(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in
            [("*.py", "d/main.py"), ("a/b", "a"), ("d*/file", "dir/x/file"), ("[a-c]", "d"), ("\\*", "x"), ("[", "[")]
        {
            assert!(!covers(pattern, path), "{pattern} {path}");
        }
        assert_eq!(Pattern::new("../x"), None);
        let leads = |pattern: &str, path: &str| Pattern::new(pattern).unwrap().leads_through(path);
        assert!(leads("a/b*/c", "a") && leads("a/b*/c", "a/bx") && leads("a", "a") && leads("**/x", "p/q"));
        assert!(!leads("a/b", "b") && !leads("a", "a/b"));
        // It would take for ever if every star were tried at every place.
        assert!(!covers(&"*a".repeat(40), &"a".repeat(39)));
        assert!(!covers(&"**/a/".repeat(40), &["a"; 39].join("/")));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(pattern in "[ab/*?\\[\\]!^\\\\-]{0,12}", path in "[ab-]{1,3}(/[ab-]{1,3}){0,3}") {
            let ignored = Ignored::read(&pattern);
            ignored.has(&path);
            if let Some(pattern) = Pattern::new(&pattern) {
                let below = format!("{path}/x");
                proptest::prop_assert!(!pattern.covers(&path) || pattern.covers(&below));
            }
        }
    }

    #[test]
    fn the_last_line_about_a_file_decides_whether_it_is_ignored() {
        let ignored = Ignored::read("# comment\n*.md\n!README.md\nbuild/\n\nbuild/keep/**\n!build/keep/it\n");
        for path in ["x.md", "build/a", "build/keep/b"] {
            assert!(ignored.has(path), "{path}");
        }
        for path in ["README.md", "src/a.rs", "build/keep/it", "# comment"] {
            assert!(!ignored.has(path), "{path}");
        }
        assert!(ignored.takes_back());
    }
}
