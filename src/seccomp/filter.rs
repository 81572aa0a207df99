//! A finished filter on its own: what the kernel is given, and what is kept of a container's for processes that join it.

use seccompiler::sock_filter;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Listener;

/// A filter as the kernel takes it.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// `SECCOMP_FILTER_FLAG_*` bits.
    pub flags: u32,
    /// The instructions.
    pub program: &'a [sock_filter],
    /// Who is told of calls that it notifies of.
    pub listener: Option<&'a Listener>,
}

/// A filter that is kept. In JSON the program is one string, sixteen hexadecimal digits an instruction (`code`, `jt`,
/// `jf`, `k`): who reads the rest of what it is kept in passes over that at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// `SECCOMP_FILTER_FLAG_*` bits.
    pub flags: u32,
    /// The instructions.
    #[serde(serialize_with = "pack", deserialize_with = "unpack")]
    pub program: Vec<sock_filter>,
    /// Who is told of calls that it notifies of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
}

impl Filter {
    /// What is installed.
    pub fn finished(&self) -> Finished<'_> {
        Finished { flags: self.flags, program: &self.program, listener: self.listener.as_ref() }
    }
}

impl From<Finished<'_>> for Filter {
    fn from(filter: Finished) -> Self {
        Self { flags: filter.flags, program: filter.program.to_vec(), listener: filter.listener.cloned() }
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A program as text: sixteen hexadecimal digits an instruction (`code`, `jt`, `jf`, `k`).
pub fn to_digits(program: &[sock_filter]) -> String {
    let mut text = String::with_capacity(program.len() * 16);
    for &sock_filter { code, jt, jf, k } in program {
        let bits = u64::from(code) << 48 | u64::from(jt) << 40 | u64::from(jf) << 32 | u64::from(k);
        text.extend((0..16).rev().map(|digit| char::from(DIGITS[(bits >> (digit * 4) & 15) as usize])));
    }
    text
}

/// The program of [`to_digits`]; none if the text is no such.
pub fn from_digits(text: &str) -> Option<Vec<sock_filter>> {
    let instruction = |digits: &[u8]| {
        let bits = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let bits = bits.filter(|_| digits.len() == 16)?;
        let (code, jt, jf, k) = ((bits >> 48) as u16, (bits >> 40) as u8, (bits >> 32) as u8, bits as u32);
        Some(sock_filter { code, jt, jf, k })
    };
    text.as_bytes().chunks(16).map(instruction).collect()
}

fn pack<S: Serializer>(program: &[sock_filter], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_digits(program))
}

fn unpack<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<sock_filter>, D::Error> {
    from_digits(<&str>::deserialize(deserializer)?)
        .ok_or_else(|| D::Error::custom("an instruction has not sixteen digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_kept_comes_back_the_same() {
        let program = vec![
            sock_filter { code: 0x20, jt: 0, jf: 0, k: 4 },
            sock_filter { code: 0x15, jt: 255, jf: 7, k: 0xc000_003e },
            sock_filter { code: 0xffff, jt: 1, jf: 2, k: u32::MAX },
        ];
        let filter = Filter { flags: 2, program, listener: None };
        let text = serde_json::to_string(&filter).unwrap();
        assert!(text.contains("00200000000000040015ff07c000003effff0102ffffffff"), "{text}");
        assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
        for wrong in [r#"{"flags":0,"program":"002"}"#, r#"{"flags":0,"program":"002000000000000x"}"#] {
            assert!(serde_json::from_str::<Filter>(wrong).is_err());
        }
    }
}
