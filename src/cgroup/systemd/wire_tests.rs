use super::wire::{Call, Message, Received, Value, split_type};

/// A message of the machine's byte order: its type, header fields as raw bytes from offset 16 on, and body.
fn message(kind: u8, fields: &[Value], signature: &str, arguments: &[Value]) -> Vec<u8> {
    // A call is turned into what answers it: the header has the same form.
    let call = Call { destination: "d", path: "/p", interface: "i", member: "m", arguments };
    let bytes = call.to_message(7);
    let length = u32::from_ne_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let body = bytes[(16 + length).next_multiple_of(8)..].to_vec();
    let mut all = fields.to_vec();
    if !signature.is_empty() {
        all.push(field(8, Value::Signature(signature.to_owned())));
    }
    // The array of fields, as a body of its own: it begins with its length.
    let array = Call { arguments: &[Value::array("(yv)", all)], ..call }.to_message(7);
    let length = u32::from_ne_bytes(array[12..16].try_into().unwrap()) as usize;
    let array = &array[(16 + length).next_multiple_of(8)..];
    // In the body the array's elements begin at 8, in a header at 16: both are aligned.
    let mut out = vec![bytes[0], kind, 0, 1];
    out.extend((body.len() as u32).to_ne_bytes());
    out.extend(9_u32.to_ne_bytes());
    out.extend(&array[..4]);
    out.extend(&array[8..]);
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(body);
    out
}

fn field(code: u8, value: Value) -> Value {
    Value::Struct(vec![Value::Byte(code), value.variant()])
}

#[cfg(target_endian = "little")]
#[test]
fn a_call_is_laid_out_as_the_specification_has_it() {
    let arguments = [
        Value::text("ab"),
        Value::array("(sv)", vec![Value::Struct(vec![Value::text("x"), Value::Uint64(5).variant()])]),
    ];
    let call = Call { destination: "a.b", path: "/p", interface: "i.j", member: "M", arguments: &arguments };
    let bytes = call.to_message(3);
    let mut expected = vec![b'l', 1, 0, 1];
    expected.extend([48, 0, 0, 0, 3, 0, 0, 0, 70, 0, 0, 0]);
    expected.extend(b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0");
    expected.extend(b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0");
    expected.extend(b"\x02\x01s\0\x03\0\0\0i.j\0\0\0\0\0");
    expected.extend(b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0");
    expected.extend(b"\x08\x01g\0\x06sa(sv)\0");
    let length = expected.len() - 16;
    expected[12] = length as u8;
    expected.resize(expected.len().next_multiple_of(8), 0);
    let body = expected.len();
    expected.extend(b"\x02\0\0\0ab\0\0");
    // The array's length is without the padding before its first element.
    expected.extend(b"\x18\0\0\0\0\0\0\0");
    expected.truncate(body + 8);
    expected.extend(b"\x18\0\0\0\0\0\0\0"[..4].iter());
    expected.resize((expected.len() - body).next_multiple_of(8) + body, 0);
    expected.extend(b"\x01\0\0\0x\0\x01t\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0");
    let size = (expected.len() - body) as u8;
    expected[4] = size;
    assert_eq!(bytes, expected);
}

#[test]
fn what_is_put_is_read_back() {
    let arguments = [Value::Uint32(7), Value::Path("/job/1".to_owned()), Value::text("a.scope"), Value::text("done")];
    let fields = [
        field(1, Value::Path("/p".to_owned())),
        field(2, Value::text("i.Manager")),
        field(3, Value::text("JobRemoved")),
        field(99, Value::array("(sv)", vec![Value::Struct(vec![Value::text("a"), Value::Uint64(1).variant()])])),
        field(7, Value::text(":1.1")),
    ];
    let mut bytes = message(4, &fields, "uoss", &arguments);
    let rest = message(2, &[field(5, Value::Uint32(3))], "", &[]);
    bytes.extend(&rest);
    let signal = Message::take(&mut bytes).unwrap().unwrap();
    assert_eq!(signal.received, Received::Signal("i.Manager".to_owned(), "JobRemoved".to_owned()));
    let mut body = signal.body("uoss").unwrap();
    assert_eq!(body.u32().unwrap(), 7);
    assert_eq!(body.text().unwrap(), "/job/1");
    assert_eq!(body.text().unwrap(), "a.scope");
    assert_eq!(body.text().unwrap(), "done");
    assert!(body.text().is_err());
    assert!(signal.body("s").is_err());
    assert_eq!(Message::take(&mut bytes).unwrap().unwrap().received, Received::Return(3));
    assert!(bytes.is_empty() && Message::take(&mut bytes).unwrap().is_none());
}

#[test]
fn a_message_is_taken_only_whole() {
    let whole = message(3, &[field(5, Value::Uint32(1)), field(4, Value::text("e.E"))], "s", &[Value::text("why")]);
    for length in 0..whole.len() {
        let mut part = whole[..length].to_vec();
        assert_eq!(Message::take(&mut part).unwrap(), None, "{length}");
        assert_eq!(part.len(), length);
    }
    let message = Message::take(&mut whole.clone()).unwrap().unwrap();
    assert_eq!(message.received, Received::Error(1, "e.E".to_owned()));
    assert_eq!(message.body("s").unwrap().text().unwrap(), "why");
}

#[test]
fn no_bytes_make_it_panic() {
    let whole = message(
        4,
        &[field(2, Value::text("i")), field(99, Value::array("s", vec![Value::text("a")]))],
        "uoss",
        &[Value::Uint32(1), Value::Path("/a".to_owned()), Value::text("b"), Value::text("c")],
    );
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for _ in 0..50_000 {
        let mut bytes = whole.clone();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            bytes[at] = next() as u8;
        }
        if let Ok(Some(message)) = Message::take(&mut bytes)
            && let Ok(mut body) = message.body("uoss")
        {
            let _ = (body.u32(), body.text(), body.text(), body.text());
        }
    }
}

#[test]
fn signatures_are_split_by_complete_types() {
    assert_eq!(split_type("a(sv)u"), Some(("a(sv)", "u")));
    assert_eq!(split_type("a{sv}"), Some(("a{sv}", "")));
    for wrong in ["", "a", "(s", "()", "z", &"a".repeat(40), &"(".repeat(10_000)] {
        assert_eq!(split_type(wrong), None, "{wrong}");
    }
}
