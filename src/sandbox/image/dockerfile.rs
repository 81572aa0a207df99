//! What a Dockerfile takes from the directory that it is built in. Nothing else of it is understood here: that is the
//! engine's. Where it cannot be said what is taken, everything is.

use super::pattern::Pattern;

/// What a Dockerfile takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Patterns of `COPY`, `ADD` and `RUN --mount`.
    pub patterns: Vec<Pattern>,
    /// Why everything counts, if it does.
    pub everything: Option<String>,
    /// What `ADD` fetches from elsewhere, which nobody here looks at.
    pub remote: Vec<String>,
}

impl Taken {
    /// Whether the file at `path` counts.
    pub fn has(&self, path: &str) -> bool {
        self.everything.is_some() || self.patterns.iter().any(|pattern| pattern.covers(path))
    }
}

/// Reads a Dockerfile.
pub fn taken(text: &str) -> Taken {
    let mut taken = Taken::default();
    for instruction in instructions(text) {
        look_at(&instruction, &mut taken);
    }
    taken
}

fn look_at(instruction: &str, taken: &mut Taken) {
    let (name, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    let rest = rest.trim();
    match name.to_ascii_uppercase().as_str() {
        "ONBUILD" => look_at(rest, taken),
        "COPY" | "ADD" => copy(rest, taken),
        "RUN" => run(rest, taken),
        _ => {}
    }
}

fn copy(rest: &str, taken: &mut Taken) {
    let (flags, rest) = flags(rest);
    if flags.iter().any(|flag| flag.starts_with("--from=")) {
        return;
    }
    let listed = rest.starts_with('[').then(|| serde_json::from_str::<Vec<String>>(rest).ok()).flatten();
    let Some(mut sources) = listed.or_else(|| words(rest)) else {
        return everything(taken, rest);
    };
    sources.pop();
    for source in sources {
        let remote = ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|start| source.starts_with(start));
        if source.starts_with("<<") {
            // Its text is the Dockerfile's.
        } else if source.contains('$') {
            everything(taken, &source);
        } else if remote {
            taken.remote.push(source);
        } else {
            add(taken, &source);
        }
    }
}

fn run(rest: &str, taken: &mut Taken) {
    for flag in flags(rest).0 {
        let Some(mount) = flag.strip_prefix("--mount=") else { continue };
        let mount = mount.trim_matches('"');
        let field = |names: &[&str]| {
            mount.split(',').filter_map(|field| field.split_once('=')).find(|(name, _)| names.contains(name))
        };
        let bind = field(&["type"]).is_none_or(|(_, kind)| kind == "bind" || kind.contains('$'));
        if bind && field(&["from"]).is_none() {
            match field(&["source", "src"]) {
                Some((_, source)) if !source.contains('$') => add(taken, source),
                _ => everything(taken, flag),
            }
        }
    }
}

fn add(taken: &mut Taken, source: &str) {
    match Pattern::new(source) {
        Some(pattern) if !pattern.is_top() => taken.patterns.push(pattern),
        _ => everything(taken, source),
    }
}

fn everything(taken: &mut Taken, source: &str) {
    taken.everything.get_or_insert_with(|| source.to_owned());
}

/// The flags before an instruction's arguments, and those.
fn flags(mut rest: &str) -> (Vec<&str>, &str) {
    let mut flags = Vec::new();
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        flags.push(flag);
        rest = after.trim_start();
    }
    (flags, rest)
}

/// Words with quotes, as a shell has them; None if a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'' | '"', None) => (quote, begun) = (Some(c), true),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                // A pattern's own way to write a star or a bracket; before anything else it says nothing.
                let next = chars.next()?;
                if "*?[]\\".contains(next) {
                    word.push('\\');
                }
                word.push(next);
                begun = true;
            }
            (c, None) if c.is_whitespace() => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (c, _) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    quote.is_none().then_some(words)
}

/// The instructions, each in one line, without comments and without the texts that `<<` begins.
fn instructions(text: &str) -> Vec<String> {
    let text = text.trim_start_matches('\u{feff}');
    let escape = escape(text);
    let mut instructions = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let mut whole = String::new();
        let mut line = Some(line);
        while let Some(part) = line {
            match part.trim_end().strip_suffix(escape) {
                Some(part) => whole.push_str(part),
                None => {
                    whole.push_str(part);
                    break;
                }
            }
            // Comments and empty lines may stand between the parts.
            line = lines.by_ref().find(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
        }
        for (end, tabs) in heredocs(&whole) {
            for line in lines.by_ref() {
                if (if tabs { line.trim_start_matches('\t') } else { line }) == end {
                    break;
                }
            }
        }
        instructions.push(whole.trim().to_owned());
    }
    instructions
}

/// The character that joins lines: `# escape=` may say so in the first lines.
fn escape(text: &str) -> char {
    let directives = text.lines().map_while(|line| line.trim().strip_prefix('#')?.split_once('='));
    let mut escapes = directives.filter(|(name, _)| name.trim().eq_ignore_ascii_case("escape"));
    if escapes.any(|(_, value)| value.trim() == "`") { '`' } else { '\\' }
}

/// The words that end the texts which an instruction has below it, and whether tabs before them count for nothing.
fn heredocs(instruction: &str) -> Vec<(String, bool)> {
    let name = instruction.trim_start().split(char::is_whitespace).next().unwrap_or_default().to_ascii_uppercase();
    if !["RUN", "COPY", "ADD", "ONBUILD"].contains(&name.as_str()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut rest = instruction;
    while let Some((_, after)) = rest.split_once("<<") {
        rest = after;
        // "<<<" is a shell's string.
        if after.starts_with('<') {
            rest = after.trim_start_matches('<');
            continue;
        }
        let (tabs, word) = after.strip_prefix('-').map_or((false, after), |word| (true, word));
        let end = word.find(|c: char| c.is_whitespace() || ";|&<>)".contains(c)).unwrap_or(word.len());
        let word = word[..end].trim_matches(['\'', '"']);
        let plain = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if plain {
            found.push((word.to_owned(), tabs));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> Taken {
        taken(text)
    }

    fn named(list: &[&str]) -> Vec<Pattern> {
        list.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    #[test]
    fn sources_of_copies_count_and_destinations_and_stages_do_not() {
        let taken = patterns(
            "FROM a AS b\ncopy --chown=1:1 one two/ /to/\nADD [\"with space\", \"/x\"]\nCOPY --from=b /etc /etc\n\
             ONBUILD ADD later /\nENV COPY x\nFROM scratch\nCOPY 'quoted name' \"other\"/*.c /\n",
        );
        assert_eq!(taken.patterns, named(&["one", "two", "with space", "later", "quoted name", "other/*.c"]));
        assert_eq!(taken.everything, None);
    }

    #[test]
    fn what_cannot_be_known_takes_everything() {
        for line in ["COPY . /", "COPY $DIR/x /", "ADD ../x /", "COPY 'open /", "RUN --mount=target=/src make"] {
            assert!(patterns(line).everything.is_some(), "{line}");
        }
        let taken = patterns("ADD https://example.org/x /\nRUN --mount=type=cache,target=/c make $X\n");
        assert_eq!(taken.everything, None);
        assert_eq!(taken.remote, ["https://example.org/x"]);
        let taken = patterns("RUN --mount=type=bind,source=lib,target=/lib --network=none make");
        assert_eq!((taken.patterns, taken.everything), (named(&["lib"]), None));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "((COPY|ADD|RUN|ONBUILD|#escape=`|--from=|--mount=|<<-?A|\\[\"|[ \\n\\t\\\\'\"$,=a`])){0,24}") {
            taken(&text);
        }
    }

    #[test]
    fn lines_are_joined_and_texts_of_heredocs_are_not_instructions() {
        let taken = patterns(
            "# escape=\\\nCOPY a \\\n  # not this\n\n  b \\   \n  /\nRUN <<EOF\nCOPY no /\nEOF\nCOPY <<-'X' c /\n\tCOPY no /\n\tX\n\
             COPY d /",
        );
        assert_eq!(taken.patterns, named(&["a", "b", "c", "d"]));
        assert_eq!(patterns("#escape=`\nCOPY a `\n b /").patterns, named(&["a", "b"]));
        assert_eq!(patterns("RUN cat <<< x\nCOPY a /").patterns, named(&["a"]));
    }
}
