//! Parsing in which an object is an object, and a word is as the specification spells it.
//!
//! The derived parsers also take a list whose elements are an object's values in the order of the type's (`"capabilities":
//! []` would be one without any), and an object for a word (`{"uts": null}`). Capabilities are taken with any number of
//! `CAP_` before them, and two of the scheduler's flags have other names. Here all that is wrong, as every other wrong type
//! and word is.
//!
//! [`Strict`] stands before a deserializer, and so before all that are inside it: it asks for a map where the type asks for a
//! struct, and for a string where it asks for an enumeration. Everything else passes unchanged; it costs nothing at run time.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Words of oci-spec's and what the specification has instead. Neither is ever a word of the other's.
const RESPELLED: [(&str, &str); 2] =
    [("SCHED_RESET_ON_FORK", "SCHED_FLAG_RESET_ON_FORK"), ("SCHED_FLAG_D_L_OVERRUN", "SCHED_FLAG_DL_OVERRUN")];

/// The name of the type in which all words are capabilities.
const CAPABILITIES: &str = "LinuxCapabilities";

/// What is said of a word that is no capability.
const NO_CAPABILITY: &str = "unknown capability";

/// A word of oci-spec's as the specification has it.
pub fn as_specified(word: &str) -> &str {
    RESPELLED.iter().find(|(own, _)| *own == word).map_or(word, |(_, specified)| specified)
}

/// A word of the specification's as oci-spec has it; none if it is one of oci-spec's that the specification does not have.
fn as_parsed(word: &str) -> Option<&str> {
    match RESPELLED.iter().find(|(own, specified)| *own == word || *specified == word) {
        None => Some(word),
        Some((own, specified)) => (*specified == word).then_some(own),
    }
}

/// Whether a capability is called so (capabilities(7)).
pub fn is_capability(word: &str) -> bool {
    word.parse::<caps::Capability>().is_ok()
}

/// Parses the JSON `text`.
///
/// # Errors
/// As `serde_json` has them, also for a list where an object is expected.
pub fn from_slice<'de, T: Deserialize<'de>>(text: &'de [u8]) -> serde_json::Result<T> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(Strict(&mut parser, false))?;
    parser.end()?;
    Ok(value)
}

/// A deserializer, or what a type makes of its values, with [`Strict`] before all deserializers inside; and whether all words
/// inside are capabilities.
struct Strict<T>(T, bool);

/// What a type makes of one of a few words.
struct Word<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Word<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<V::Value, E> {
        // What the type does not know it names, with all that it knows.
        self.0.visit_enum(StrDeserializer::new(as_parsed(word).unwrap_or_default()))
    }
}

macro_rules! pass_on {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($argument,)* Strict(visitor, self.1))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Strict(visitor, name == CAPABILITIES))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_str(Word(visitor))
    }

    pass_on! {
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
        deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_char() deserialize_str() deserialize_string()
        deserialize_bytes() deserialize_byte_buf() deserialize_option() deserialize_unit() deserialize_seq()
        deserialize_map() deserialize_identifier() deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str) deserialize_newtype_struct(name: &'static str)
        deserialize_tuple(length: usize) deserialize_tuple_struct(name: &'static str, length: usize)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visits {
    ($($method:ident($type:ty))*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.expecting(f)
    }

    visits! {
        visit_bool(bool) visit_i64(i64) visit_i128(i128) visit_u64(u64) visit_u128(u128) visit_f64(f64)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        if self.1 && !is_capability(text) {
            return Err(E::custom(NO_CAPABILITY));
        }
        self.0.visit_str(text)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        if self.1 && !is_capability(text) {
            return Err(E::custom(NO_CAPABILITY));
        }
        self.0.visit_borrowed_str(text)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<V::Value, E> {
        if self.1 && !is_capability(&text) {
            return Err(E::custom(NO_CAPABILITY));
        }
        self.0.visit_string(text)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(inner, self.1))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict(inner, self.1))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Strict(elements, self.1))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Strict(entries, self.1))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(inner, self.1))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed, self.1))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(Strict(seed, self.1))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Spec;

    use super::*;

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        for text in [
            "[]",
            r#"["1.0.0"]"#,
            r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":[]}}"#,
            r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{},"capabilities":[]}}"#,
            r#"{"ociVersion":"1.0.0","linux":{"namespaces":[["pid"]]}}"#,
            r#"{"ociVersion":"1.0.0","linux":{"netDevices":{"eth0":[]}}}"#,
        ] {
            let error = from_slice::<Spec>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("invalid type: sequence, expected struct "), "{text}: {error}");
        }
    }

    #[test]
    fn words_are_those_of_the_specification() {
        let parse = |flag: &str| {
            let process =
                format!(r#"{{"cwd":"/","user":{{}},"scheduler":{{"policy":"SCHED_OTHER","flags":["{flag}"]}}}}"#);
            from_slice::<oci_spec::runtime::Process>(process.as_bytes())
        };
        for (own, specified) in RESPELLED {
            assert!(parse(own).unwrap_err().to_string().starts_with("unknown variant ``"));
            let process = parse(specified).unwrap();
            let flags = process.scheduler().as_ref().unwrap().flags().clone().unwrap();
            assert_eq!(serde_json::to_value(flags).unwrap(), serde_json::json!([own]));
        }
        assert!(parse("SCHED_FLAG_KEEP_POLICY").is_ok());
        assert!(parse("NOPE").unwrap_err().to_string().starts_with("unknown variant `NOPE`"));
    }

    #[test]
    fn capabilities_have_their_whole_names() {
        let parse = |name: &str| {
            let process =
                format!(r#"{{"cwd":"/","user":{{}},"capabilities":{{"ambient":["{name}"]}},"args":["{name}"]}}"#);
            from_slice::<oci_spec::runtime::Process>(process.as_bytes())
        };
        assert!(parse("CAP_KILL").is_ok());
        for wrong in ["KILL", "CAP_CAP_KILL", "cap_kill", "CAP_\\u004bill", ""] {
            assert!(parse(wrong).unwrap_err().to_string().starts_with(NO_CAPABILITY), "{wrong}");
        }
    }

    #[test]
    fn a_word_is_no_object() {
        let text = r#"{"ociVersion":"1.0.0","linux":{"namespaces":[{"type":{"uts":null}}]}}"#;
        let error = from_slice::<Spec>(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("invalid type: map, expected a string"), "{error}");
    }

    #[test]
    fn everything_else_is_parsed_as_before() {
        for file in ["everything", "docker-default", "podman", "cri-sandbox", "minimal", "spec", "spec-rootless"] {
            let path = format!("{}/tests/configs/{file}.json", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read(path).unwrap();
            assert_eq!(from_slice::<Spec>(&text).unwrap(), serde_json::from_slice(&text).unwrap());
        }
        assert!(from_slice::<Spec>(b"{} x").is_err());
    }
}
