//! Values in the text form of `GVariant` (GLib, "GVariant Text Format"), as the annotations `org.systemd.property.*` have
//! them: `true`, `'text'`, `uint64 5`, `@as []`, `['a', 'b']`, `(1, 'a')`, `<1>`.
//!
//! Pure. Without a type a whole number is an `int32` and one with a point a double. Dictionaries, which no property of
//! a scope is, and `maybe` types, which D-Bus lacks, are refused.

use super::wire::{Value, split_type};

/// What is wrong with a text.
type Result<T> = std::result::Result<T, String>;

/// Nobody writes deeper ones by hand.
const DEEPEST: usize = 16;

/// What was written, before it is known what type it is of.
enum Written<'a> {
    Word(&'a str),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Written<'a>>),
    Tuple(Vec<Written<'a>>),
    Variant(Box<Written<'a>>),
    Typed(&'a str, Box<Written<'a>>),
}

/// Reads one value.
///
/// # Errors
/// A sentence about what is not understood.
pub fn parse(text: &str) -> Result<Value> {
    let mut input = Input { rest: text };
    let written = input.value(DEEPEST)?;
    input.space();
    if !input.rest.is_empty() {
        return Err(format!("{:?} is left over", input.rest));
    }
    let value = resolve(&written, None)?;
    // It is sent with its type before it, whose length is a byte (D-Bus specification, "Valid Signatures").
    match value.signature().len() {
        0..=255 => Ok(value),
        _ => Err("its type takes more than 255 characters to write".to_owned()),
    }
}

struct Input<'a> {
    rest: &'a str,
}

impl<'a> Input<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, symbol: char) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(symbol);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Everything up to a character that ends a word.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| c.is_whitespace() || ",[](){}<>'\"".contains(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn value(&mut self, depth: usize) -> Result<Written<'a>> {
        let depth = depth.checked_sub(1).ok_or("it is nested too deep")?;
        self.space();
        if let Some(rest) = self.rest.strip_prefix("b'").or_else(|| self.rest.strip_prefix("b\"")) {
            let quote = if self.rest.as_bytes()[1] == b'\'' { '\'' } else { '"' };
            self.rest = rest;
            let mut bytes = self.string(quote)?.into_bytes();
            bytes.push(0);
            return Ok(Written::Bytes(bytes));
        }
        match self.rest.chars().next() {
            None => Err("a value is missing".to_owned()),
            Some(quote @ ('\'' | '"')) => {
                self.rest = &self.rest[1..];
                self.string(quote).map(Written::Text)
            }
            Some('[') => self.list('[', ']', depth).map(Written::Array),
            Some('(') => self.list('(', ')', depth).map(Written::Tuple),
            Some('<') => {
                let mut list = self.list('<', '>', depth)?;
                match (list.pop(), list.is_empty()) {
                    (Some(only), true) => Ok(Written::Variant(Box::new(only))),
                    _ => Err("\"<>\" takes one value".to_owned()),
                }
            }
            Some('@') => {
                self.rest = &self.rest[1..];
                // A signature has parentheses of its own.
                let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
                let (signature, rest) = self.rest.split_at(end);
                self.rest = rest;
                match split_type(signature) {
                    Some((_, "")) => Ok(Written::Typed(signature, Box::new(self.value(depth)?))),
                    _ => Err(format!("{signature:?} is not the signature of a type")),
                }
            }
            Some('{') => Err("dictionaries are not supported".to_owned()),
            Some(_) => {
                let word = self.word();
                match keyword(word) {
                    Some(signature) => Ok(Written::Typed(signature, Box::new(self.value(depth)?))),
                    None if word.is_empty() => Err(format!("{:?} does not begin a value", self.rest)),
                    None => Ok(Written::Word(word)),
                }
            }
        }
    }

    fn list(&mut self, open: char, close: char, depth: usize) -> Result<Vec<Written<'a>>> {
        self.eat(open);
        let mut list = Vec::new();
        while !self.eat(close) {
            if !list.is_empty() && !self.eat(',') {
                return Err(format!("\",\" or {close:?} is missing before {:?}", self.rest));
            }
            // `(1,)` is a tuple of one.
            if open == '(' && list.len() == 1 && self.eat(close) {
                break;
            }
            list.push(self.value(depth)?);
        }
        Ok(list)
    }

    /// The rest of a string, from after its first quote.
    fn string(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            let next = match chars.next() {
                None => return Err(format!("a string has no {quote} at its end")),
                Some(c) if c == quote => {
                    self.rest = chars.as_str();
                    return Ok(text);
                }
                Some('\\') => match chars.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('a') => '\x07',
                    Some('b') => '\x08',
                    Some('f') => '\x0c',
                    Some('v') => '\x0b',
                    Some(letter @ ('u' | 'U')) => {
                        let length = if letter == 'u' { 4 } else { 8 };
                        let digits: String = chars.by_ref().take(length).collect();
                        let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == length);
                        code.and_then(char::from_u32)
                            .ok_or_else(|| format!("\"\\{letter}{digits}\" is no character"))?
                    }
                    Some(c) => c,
                    None => continue,
                },
                Some(c) => c,
            };
            if next == '\0' {
                return Err("a string has a zero byte in it".to_owned());
            }
            text.push(next);
        }
    }
}

fn keyword(word: &str) -> Option<&'static str> {
    Some(match word {
        "boolean" => "b",
        "byte" => "y",
        "int16" => "n",
        "uint16" => "q",
        "int32" => "i",
        "uint32" => "u",
        "int64" => "x",
        "uint64" => "t",
        "double" => "d",
        "string" => "s",
        "objectpath" => "o",
        "signature" => "g",
        _ => return None,
    })
}

/// What was written as a value, of the type `wanted` if one is known.
fn resolve(written: &Written, wanted: Option<&str>) -> Result<Value> {
    let value = match written {
        Written::Typed(signature, inner) => resolve(inner, Some(signature))?,
        Written::Word("true") => Value::Bool(true),
        Written::Word("false") => Value::Bool(false),
        Written::Word(word) => return number(word, wanted),
        Written::Text(text) => match wanted {
            Some("o") => Value::Path(text.clone()),
            Some("g") => Value::Signature(text.clone()),
            _ => Value::Text(text.clone()),
        },
        Written::Bytes(bytes) => Value::array("y", bytes.iter().copied().map(Value::Byte).collect()),
        Written::Variant(inner) => resolve(inner, None)?.variant(),
        Written::Array(elements) => {
            let of = match wanted {
                Some(signature) => signature.strip_prefix('a').unwrap_or(signature).to_owned(),
                None => {
                    let typed = elements.iter().find(|element| matches!(element, Written::Typed(..)));
                    let first =
                        typed.or(elements.first()).ok_or("an empty array needs its type, such as \"@as []\"")?;
                    resolve(first, None)?.signature()
                }
            };
            Value::Array(of.clone(), elements.iter().map(|element| resolve(element, Some(&of))).collect::<Result<_>>()?)
        }
        Written::Tuple(fields) => {
            let mut types = wanted.and_then(|signature| signature.strip_prefix('(')?.strip_suffix(')'));
            let fields = fields.iter().map(|field| {
                let split = types.and_then(split_type);
                types = split.map(|(_, rest)| rest);
                resolve(field, split.map(|(first, _)| first))
            });
            Value::Struct(fields.collect::<Result<_>>()?)
        }
    };
    match wanted {
        Some(signature) if value.signature() != signature => {
            Err(format!("a value of type {:?} stands where one of type {signature:?} is wanted", value.signature()))
        }
        _ => Ok(value),
    }
}

fn number(word: &str, wanted: Option<&str>) -> Result<Value> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let (radix, plain) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (16, hex),
        None if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) => {
            (8, digits)
        }
        None => (10, digits),
    };
    // No second sign.
    let whole = plain.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let whole = whole.then(|| i128::from_str_radix(plain, radix).ok()).flatten();
    let whole = whole.map(|value| if negative { -value } else { value });
    let signature = wanted.unwrap_or(if whole.is_some() { "i" } else { "d" });
    if signature == "d" {
        // `inf` and `nan` are numbers to Rust, and words to whoever mistyped a string.
        let plain = plain.bytes().any(|byte| byte.is_ascii_digit());
        let value = plain.then(|| word.parse().ok()).flatten();
        return value.map(Value::Double).ok_or_else(|| format!("{word:?} is not understood (a string has quotes)"));
    }
    let whole = whole.ok_or_else(|| format!("{word:?} is not a whole number"))?;
    let value = match signature {
        "y" => u8::try_from(whole).ok().map(Value::Byte),
        "n" => i16::try_from(whole).ok().map(Value::Int16),
        "q" => u16::try_from(whole).ok().map(Value::Uint16),
        "i" => i32::try_from(whole).ok().map(Value::Int32),
        "u" => u32::try_from(whole).ok().map(Value::Uint32),
        "x" => i64::try_from(whole).ok().map(Value::Int64),
        "t" => u64::try_from(whole).ok().map(Value::Uint64),
        _ => return Err(format!("a number stands where a value of type {signature:?} is wanted")),
    };
    value.ok_or_else(|| format!("{word} is beyond the type {signature:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_and_without_their_types() {
        let text = |text: &str| Value::text(text);
        let pairs = [
            ("true", Value::Bool(true)),
            ("'inactive-or-failed'", text("inactive-or-failed")),
            ("\"it's\"", text("it's")),
            (r"'a\'b\n\u0041'", text("a'b\nA")),
            ("5", Value::Int32(5)),
            (" -5 ", Value::Int32(-5)),
            ("uint64 123456789", Value::Uint64(123_456_789)),
            ("uint64 18446744073709551615", Value::Uint64(u64::MAX)),
            ("byte 0xff", Value::Byte(255)),
            ("int64 010", Value::Int64(8)),
            ("1.5", Value::Double(1.5)),
            ("double 2", Value::Double(2.0)),
            ("@t 7", Value::Uint64(7)),
            ("@as []", Value::array("s", vec![])),
            ("['a.service', 'b.service']", Value::array("s", vec![text("a.service"), text("b.service")])),
            ("[uint16 1, 2]", Value::array("q", vec![Value::Uint16(1), Value::Uint16(2)])),
            (
                "@a(st) [('/dev/sda', 5)]",
                Value::array("(st)", vec![Value::Struct(vec![text("/dev/sda"), Value::Uint64(5)])]),
            ),
            ("<true>", Value::Bool(true).variant()),
            ("(1,)", Value::Struct(vec![Value::Int32(1)])),
            ("b'a'", Value::array("y", vec![Value::Byte(97), Value::Byte(0)])),
            ("objectpath '/a'", Value::Path("/a".to_owned())),
        ];
        for (written, value) in pairs {
            assert_eq!(parse(written), Ok(value), "{written}");
        }
    }

    #[test]
    fn what_is_no_value_is_said() {
        let pairs = [
            ("", "a value is missing"),
            ("inactive", "a string has quotes"),
            ("nan", "a string has quotes"),
            ("'open", "no ' at its end"),
            ("'a' 'b'", "is left over"),
            ("[]", "needs its type"),
            ("[1, 'a']", "\"s\" stands where one of type \"i\""),
            ("byte 256", "beyond the type"),
            ("uint64 -1", "beyond the type"),
            ("--5", "not understood"),
            ("@zz 1", "not the signature"),
            ("{'a': 1}", "dictionaries"),
            ("[1 2]", "is missing before"),
            ("<1, 2>", "takes one value"),
            (r"'a\u0000'", "zero byte"),
            ("uint64 true", "stands where"),
            ("[[[[[[[[[[[[[[[[[[[[1]]]]", "too deep"),
            ("]", "does not begin a value"),
        ];
        for (written, why) in pairs {
            let error = parse(written).unwrap_err();
            assert!(error.contains(why), "{written}: {error}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        let letters = [
            "'", "\"", "[", "]", "(", ")", "<", ">", ",", "@", "a", "s", "uint64 ", "-", "0x", "\\", "1", "b'",
            "\u{e9}", "{",
        ];
        let mut seed = 1_u64;
        for _ in 0..50_000 {
            let mut text = String::new();
            for _ in 0..8 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(letters[(seed >> 33) as usize % letters.len()]);
            }
            let _ = parse(&text);
        }
    }

    #[test]
    fn a_value_whose_type_cannot_be_sent_is_refused() {
        let tuple = |length| format!("({})", vec!["1"; length].join(", "));
        assert!(parse(&tuple(253)).is_ok());
        assert_eq!(parse(&tuple(254)).unwrap_err(), "its type takes more than 255 characters to write");
    }
}
