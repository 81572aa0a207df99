//! The wire format of D-Bus (D-Bus specification, "Message Protocol"): values to bytes, and bytes to what is asked of them.
//!
//! Pure. Only what a call to systemd and its answer take: there is no reading of values into a tree, a body is read by
//! its reader in the order in which it is written.

use serde::Serialize;

use crate::error::{Error, Result};

/// No message between procrt and systemd comes near it; the specification's own limit is 128 MiB.
const LONGEST: usize = 16 << 20;
/// How deep types may be nested, arrays and structures together.
const DEEPEST: usize = 32;

/// A value of a D-Bus type.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    Int16(i16),
    /// `q`
    Uint16(u16),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a` and the elements' signature, which an empty array has too.
    #[serde(serialize_with = "serialize_elements")]
    Array(String, Vec<Value>),
    /// `(…)`
    Struct(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// An array of what has the signature `of`.
    pub fn array(of: &str, values: Vec<Self>) -> Self {
        Self::Array(of.to_owned(), values)
    }

    /// The value as a variant.
    #[must_use]
    pub fn variant(self) -> Self {
        Self::Variant(Box::new(self))
    }

    /// The signature of its type.
    pub fn signature(&self) -> String {
        let letter = match self {
            Self::Array(of, _) => return format!("a{of}"),
            Self::Struct(fields) => {
                let fields: String = fields.iter().map(Self::signature).collect();
                return format!("({fields})");
            }
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::Int16(_) => "n",
            Self::Uint16(_) => "q",
            Self::Int32(_) => "i",
            Self::Uint32(_) => "u",
            Self::Int64(_) => "x",
            Self::Uint64(_) => "t",
            Self::Double(_) => "d",
            Self::Text(_) => "s",
            Self::Path(_) => "o",
            Self::Signature(_) => "g",
            Self::Variant(_) => "v",
        };
        letter.to_owned()
    }

    /// Appends the value, aligned as if `out` began at a multiple of eight.
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Byte(value) => out.push(*value),
            Self::Bool(value) => put_aligned(out, &u32::from(*value).to_ne_bytes()),
            Self::Int16(value) => put_aligned(out, &value.to_ne_bytes()),
            Self::Uint16(value) => put_aligned(out, &value.to_ne_bytes()),
            Self::Int32(value) => put_aligned(out, &value.to_ne_bytes()),
            Self::Uint32(value) => put_aligned(out, &value.to_ne_bytes()),
            Self::Int64(value) => put_aligned(out, &value.to_ne_bytes()),
            Self::Uint64(value) => put_aligned(out, &value.to_ne_bytes()),
            Self::Double(value) => put_aligned(out, &value.to_ne_bytes()),
            Self::Text(text) | Self::Path(text) => {
                put_aligned(out, &(text.len() as u32).to_ne_bytes());
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            Self::Signature(text) => put_signature(out, text),
            Self::Array(of, values) => {
                put_aligned(out, &[0; 4]);
                let length_at = out.len() - 4;
                pad(out, alignment(of));
                let begin = out.len();
                for value in values {
                    value.put(out);
                }
                let length = (out.len() - begin) as u32;
                out[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
            }
            Self::Struct(fields) => {
                pad(out, 8);
                for field in fields {
                    field.put(out);
                }
            }
            Self::Variant(value) => {
                put_signature(out, &value.signature());
                value.put(out);
            }
        }
    }
}

/// An array is shown without its type.
fn serialize_elements<S: serde::Serializer>(
    _: &str,
    values: &[Value],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    values.serialize(serializer)
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn put_aligned(out: &mut Vec<u8>, bytes: &[u8]) {
    pad(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_signature(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// What a type that begins so is aligned to.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// The first complete type of a signature, and the rest; nothing if it does not begin with one.
pub fn split_type(signature: &str) -> Option<(&str, &str)> {
    let length = type_length(signature.as_bytes(), DEEPEST)?;
    Some(signature.split_at(length))
}

fn type_length(signature: &[u8], depth: usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    match signature.first()? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'h' | b'v' => Some(1),
        b'a' => Some(1 + type_length(&signature[1..], depth)?),
        open @ (b'(' | b'{') => {
            let close = if *open == b'(' { b')' } else { b'}' };
            let mut at = 1;
            while *signature.get(at)? != close {
                at += type_length(&signature[at..], depth)?;
            }
            (at > 1).then_some(at + 1)
        }
        _ => None,
    }
}

/// Who is called, with what.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The service's name on the bus.
    pub destination: &'a str,
    /// The object's path.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// The arguments.
    pub arguments: &'a [Value],
}

impl Call<'_> {
    /// The call as a message with the number `serial`, which is not 0.
    pub fn to_message(self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        for value in self.arguments {
            value.put(&mut body);
        }
        let field = |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), value.variant()]);
        let mut fields = vec![
            field(1, Value::Path(self.path.to_owned())),
            field(6, Value::text(self.destination)),
            field(2, Value::text(self.interface)),
            field(3, Value::text(self.member)),
        ];
        if !self.arguments.is_empty() {
            fields.push(field(8, Value::Signature(self.arguments.iter().map(Value::signature).collect())));
        }
        // Byte order, a method call, no flags, version 1.
        let mut message = vec![ORDER, 1, 0, 1];
        put_aligned(&mut message, &(body.len() as u32).to_ne_bytes());
        put_aligned(&mut message, &serial.to_ne_bytes());
        Value::array("(yv)", fields).put(&mut message);
        pad(&mut message, 8);
        message.extend_from_slice(&body);
        message
    }
}

const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

/// What kind of message was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The answer to the call with that serial.
    Return(u32),
    /// The refusal of the call with that serial: the error's name.
    Error(u32, String),
    /// A signal: its interface and name.
    Signal(String, String),
    /// A call, or what later versions have.
    Other,
}

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub received: Received,
    signature: String,
    body: Vec<u8>,
}

impl Message {
    /// Takes the first message off `bytes`; nothing if it is not there whole.
    ///
    /// # Errors
    /// It is no message.
    pub fn take(bytes: &mut Vec<u8>) -> Result<Option<Self>> {
        if bytes.len() < 16 {
            return Ok(None);
        }
        if bytes[0] != ORDER || bytes[3] != 1 {
            return Err(garbled("a message of another byte order or version"));
        }
        let mut head = Reader { bytes: &bytes[..16], at: 4 };
        let (body, _serial, fields) = (head.u32()? as usize, head.u32()?, head.u32()? as usize);
        let header = fields.checked_add(16).filter(|length| *length <= LONGEST);
        let header = header.ok_or_else(|| garbled("a message too long"))?.next_multiple_of(8);
        let end = header.checked_add(body).filter(|length| *length <= LONGEST);
        let end = end.ok_or_else(|| garbled("a message too long"))?;
        if bytes.len() < end {
            return Ok(None);
        }
        let message = Self::parse(bytes[1], &bytes[..16 + fields], &bytes[header..end])?;
        bytes.drain(..end);
        Ok(Some(message))
    }

    fn parse(kind: u8, header: &[u8], body: &[u8]) -> Result<Self> {
        let (mut interface, mut member, mut error, mut signature) = Default::default();
        let mut reply_to = 0;
        let mut fields = Reader { bytes: header, at: 16 };
        while fields.at < header.len() {
            fields.align(8)?;
            let code = fields.byte()?;
            let kind = fields.signature()?.to_owned();
            let text: &mut String = match (code, kind.as_str()) {
                (5, "u") => {
                    reply_to = fields.u32()?;
                    continue;
                }
                (8, "g") => {
                    fields.signature()?.clone_into(&mut signature);
                    continue;
                }
                (2, "s") => &mut interface,
                (3, "s") => &mut member,
                (4, "s") => &mut error,
                _ => {
                    fields.skip(&kind, DEEPEST)?;
                    continue;
                }
            };
            fields.text()?.clone_into(text);
        }
        let received = match kind {
            2 => Received::Return(reply_to),
            3 => Received::Error(reply_to, error),
            4 => Received::Signal(interface, member),
            _ => Received::Other,
        };
        Ok(Self { received, signature, body: body.to_owned() })
    }

    /// The body, if its values begin with those of `signature`.
    ///
    /// # Errors
    /// They do not.
    pub fn body(&self, signature: &str) -> Result<Reader<'_>> {
        if self.signature.starts_with(signature) {
            return Ok(Reader { bytes: &self.body, at: 0 });
        }
        Err(garbled(&format!("{:?} where {signature:?} was expected", self.signature)))
    }
}

fn garbled(what: &str) -> Error {
    Error::system(format!("systemd's answer is not understood: {what}"))
}

/// Reads values in their order; everything is checked against the end.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) -> Result<()> {
        let at = self.at.next_multiple_of(to);
        self.take(at - self.at).map(drop)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| garbled("it ends early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A `u`.
    ///
    /// # Errors
    /// The message ends before.
    pub fn u32(&mut self) -> Result<u32> {
        self.align(4)?;
        let bytes = self.take(4)?;
        Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// An `s` or `o`.
    ///
    /// # Errors
    /// The message ends before, or it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str> {
        let length = self.u32()? as usize;
        self.string(length)
    }

    /// A `g`, which every variant begins with.
    ///
    /// # Errors
    /// As [`Reader::text`].
    pub fn signature(&mut self) -> Result<&'a str> {
        let length = self.byte()? as usize;
        self.string(length)
    }

    fn string(&mut self, length: usize) -> Result<&'a str> {
        let bytes = self.take(length)?;
        if self.byte()? != 0 {
            return Err(garbled("a string without its end"));
        }
        std::str::from_utf8(bytes).map_err(|_| garbled("a string that is not UTF-8"))
    }

    fn skip(&mut self, signature: &str, depth: usize) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| garbled("types nested too deep"))?;
        let mut rest = signature;
        while !rest.is_empty() {
            let (first, others) = split_type(rest).ok_or_else(|| garbled("a wrong signature"))?;
            rest = others;
            match first.as_bytes()[0] {
                b's' | b'o' => self.text().map(drop)?,
                b'g' => self.signature().map(drop)?,
                b'v' => {
                    let inner = self.signature()?;
                    self.skip(inner, depth)?;
                }
                b'a' => {
                    let length = self.u32()? as usize;
                    self.align(alignment(&first[1..]))?;
                    self.take(length)?;
                }
                b'(' | b'{' => {
                    self.align(8)?;
                    self.skip(&first[1..first.len() - 1], depth)?;
                }
                // The others are as long as they are aligned; `h` is a number.
                letter => {
                    let size = if letter == b'h' { 4 } else { alignment(first) };
                    self.align(size)?;
                    self.take(size)?;
                }
            }
        }
        Ok(())
    }
}
