//! The table of malformed bodies.

/// A body, and how it must be refused.
pub struct Bad {
    /// What is wrong with it.
    pub what: &'static str,
    /// The bytes of the body.
    pub body: Vec<u8>,
    /// The expected status.
    pub status: u16,
    /// The expected problem code.
    pub code: &'static str,
    /// The index of the event that the problem names, from 0.
    pub index: Option<u64>,
    /// The field that the problem names.
    pub field: Option<&'static str>,
}

/// Returns the malformed bodies of all kinds.
pub fn table() -> Vec<Bad> {
    [not_json(), not_utf8(), not_events(), fields(), payloads(), limits()].into_iter().flatten().collect()
}

/// Bodies that are not JSON: status 400, and no event is named because there is none.
fn not_json() -> Vec<Bad> {
    let texts = [
        ("nothing", ""),
        ("white space only", " \r\n\t "),
        ("a word", "hello"),
        ("a form", "id=1&payload=2"),
        ("XML", "<event><id>1</id></event>"),
        ("an object that does not end", r#"{"id":"1","payload":1"#),
        ("an array that does not end", r#"[{"id":"1","payload":1}"#),
        ("a string that does not end", r#"{"id":"1","payload":"x"#),
        ("a payload that does not end", r#"{"id":"1","payload":{"a":[1,2}"#),
        ("text after the end", r#"{"id":"1","payload":1} and more"#),
        ("two documents", r#"{"id":"1","payload":1}{"id":"2","payload":1}"#),
        ("NDJSON", "{\"id\":\"1\",\"payload\":1}\n{\"id\":\"2\",\"payload\":1}"),
        ("single quotes", "{'id':'1','payload':1}"),
        ("names without quotes", "{id:\"1\",payload:1}"),
        ("a comma after the last event", r#"[{"id":"1","payload":1},]"#),
        ("a comma after the last member", r#"{"id":"1","payload":1,}"#),
        ("no comma between members", r#"{"id":"1" "payload":1}"#),
        ("no comma between events", r#"[{"id":"1","payload":1} {"id":"2","payload":1}]"#),
        ("no colon", r#"{"id" "1","payload":1}"#),
        ("a closing bracket of the wrong kind", r#"[{"id":"1","payload":1]}"#),
        ("a comment", "{\"id\":\"1\",/* why */\"payload\":1}"),
        ("NaN", r#"{"id":"1","payload":NaN}"#),
        ("Infinity", r#"{"id":"1","payload":-Infinity}"#),
        ("a number with a leading zero", r#"{"id":"1","payload":01}"#),
        ("a number with a plus", r#"{"id":"1","payload":+1}"#),
        ("a minus without a number", r#"{"id":"1","payload":-}"#),
        ("a number that ends at its point", r#"{"id":"1","payload":1.}"#),
        ("a number that begins at its point", r#"{"id":"1","payload":.5}"#),
        ("an exponent without digits", r#"{"id":"1","payload":1e}"#),
        ("a hexadecimal number", r#"{"id":"1","payload":0x10}"#),
        ("True", r#"{"id":"1","payload":True}"#),
        ("half a literal", r#"{"id":"1","payload":nul}"#),
        ("a raw line feed in a string", "{\"id\":\"1\",\"payload\":\"a\nb\"}"),
        ("a raw control character in a string", "{\"id\":\"1\",\"payload\":\"a\u{1}b\"}"),
        ("a raw NUL in a string", "{\"id\":\"1\",\"payload\":\"a\0b\"}"),
        ("an unknown escape", r#"{"id":"1","payload":"\x41"}"#),
        ("half a Unicode escape", r#"{"id":"1","payload":"\u00"}"#),
        ("a Unicode escape with other letters", r#"{"id":"1","payload":"\u00zz"}"#),
        ("a byte order mark", "\u{feff}{\"id\":\"1\",\"payload\":1}"),
        ("a NUL after the end", "{\"id\":\"1\",\"payload\":1}\0"),
    ];
    texts.map(|(what, text)| malformed(what, text.as_bytes().to_vec())).into()
}

fn not_utf8() -> Vec<Bad> {
    let inside = |bytes: &[u8]| [b"{\"id\":\"1\",\"payload\":\"", bytes, b"\"}"].concat();
    let utf16: Vec<u8> = "{\"id\":\"1\",\"payload\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        malformed("a byte that UTF-8 does not have", inside(b"\xff")),
        malformed("Latin-1", inside(b"caf\xe9")),
        malformed("an overlong NUL", inside(b"\xc0\x80")),
        malformed("an encoded surrogate", inside(b"\xed\xa0\x80")),
        malformed("a character beyond U+10FFFF", inside(b"\xf4\x90\x80\x80")),
        malformed("half a character", inside(b"\xe2\x82")),
        malformed("a body cut inside a character", b"{\"id\":\"1\",\"payload\":\"\xe2\x82".to_vec()),
        malformed("broken UTF-8 in a name", b"{\"id\":\"1\",\"payload\":1,\"\xfe\":2}".to_vec()),
        malformed("UTF-16", utf16.iter().copied().chain([0xd8]).collect()),
        malformed("gzip", vec![0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56, 0xca]),
    ]
}

/// Bodies that are JSON but contain no valid list of events.
fn not_events() -> Vec<Bad> {
    let event = r#"{"id":"1","payload":1}"#;
    let both = format!(r#"{{"events":[{event}],"topic":"a"}}"#);
    let twice = format!(r#"{{"events":[{event}],"events":[{event}]}}"#);
    let second = format!("[{event},7]");
    let third = format!(r#"{{"events":[{event},{event},{{}}]}}"#);
    vec![
        invalid("a string", "\"event\"", None, None),
        invalid("a number", "42", None, None),
        invalid("true", "true", None, None),
        invalid("null", "null", None, None),
        invalid("an empty array", "[]", None, Some("events")),
        invalid("an empty list of events", r#"{"events":[]}"#, None, Some("events")),
        invalid("events that are no list", r#"{"events":{}}"#, None, None),
        invalid("events that are null", r#"{"events":null}"#, None, None),
        invalid("events that are a string", r#"{"events":"all"}"#, None, None),
        invalid("two lists of events", &twice, None, Some("events")),
        invalid("a list beside the fields of an event", &both, None, Some("events")),
        invalid("an empty object", "{}", Some(0), Some("event_id")),
        invalid("an array of null", "[null]", Some(0), None),
        invalid("an array of strings", r#"["1"]"#, Some(0), None),
        invalid("an array of arrays", "[[]]", Some(0), None),
        invalid("a number among events", &second, Some(1), None),
        invalid("an empty object among events", &third, Some(2), Some("event_id")),
    ]
}

/// An event with one invalid field.
fn fields() -> Vec<Bad> {
    let long_id = format!(r#"{{"id":"{}","payload":1}}"#, "i".repeat(513));
    let long_topic = format!(r#"{{"id":"1","payload":1,"topic":"{}"}}"#, "é".repeat(129));
    let long_source = format!(r#"{{"id":"1","payload":1,"source":"{}"}}"#, "s".repeat(513));
    let at = |what, member: &str, field| {
        invalid(what, &format!(r#"[{{"id":"0","payload":0}},{{"id":"1","payload":1,{member}}}]"#), Some(1), Some(field))
    };
    let id = |what, members: &str, field| {
        invalid(what, &format!(r#"[{{"id":"0","payload":0}},{{{members},"payload":1}}]"#), Some(1), Some(field))
    };
    vec![
        invalid("no id", r#"{"payload":1}"#, Some(0), Some("event_id")),
        id("an id that is null", r#""id":null"#, "id"),
        id("an id that is a number", r#""event_id":7"#, "event_id"),
        id("an id that is a boolean", r#""event_id":false"#, "event_id"),
        id("an id that is a list", r#""id":["1"]"#, "id"),
        id("an id that is an object", r#""id":{"n":1}"#, "id"),
        id("an empty id", r#""event_id":"""#, "event_id"),
        id("a blank id", r#""event_id":" \t\u00a0""#, "event_id"),
        id("an id with NUL", r#""event_id":"a\u0000b""#, "event_id"),
        id("an id with half a surrogate pair", r#""event_id":"\ud800""#, "event_id"),
        id("an id given twice", r#""event_id":"1","event_id":"1""#, "event_id"),
        id("an alias given twice", r#""id":"1","id":"1""#, "id"),
        id("an id and an alias that differ", r#""event_id":"1","id":"2""#, "id"),
        invalid("an id that is too long", &long_id, Some(0), Some("id")),
        at("a topic that is null", r#""topic":null"#, "topic"),
        at("a topic that is a number", r#""topic":1.5"#, "topic"),
        at("an empty topic", r#""topic":"""#, "topic"),
        at("a blank topic", r#""topic":"\n\u3000""#, "topic"),
        at("a topic with NUL", r#""topic":"\u0000""#, "topic"),
        at("a topic with half a surrogate pair", r#""topic":"x\udc00""#, "topic"),
        at("a topic given twice", r#""topic":"a","topic":"b""#, "topic"),
        invalid("a topic that is too long", &long_topic, Some(0), Some("topic")),
        at("a time that is null", r#""timestamp":null"#, "timestamp"),
        at("a time that is a number", r#""timestamp":1700000000"#, "timestamp"),
        at("an empty time", r#""timestamp":"""#, "timestamp"),
        at("a time in words", r#""timestamp":"yesterday""#, "timestamp"),
        at("a time without a date", r#""timestamp":"12:00:00Z""#, "timestamp"),
        at("the 30th of February", r#""timestamp":"2026-02-30T00:00:00Z""#, "timestamp"),
        at("a 13th month", r#""timestamp":"2026-13-01T00:00:00Z""#, "timestamp"),
        at("a 25th hour", r#""timestamp":"2026-01-31T25:00:00Z""#, "timestamp"),
        at("an offset of 99 hours", r#""timestamp":"2026-01-31T12:00:00+99:00""#, "timestamp"),
        at("a time zone by name", r#""timestamp":"2026-01-31T12:00:00Z[UTC]""#, "timestamp"),
        at("a year of five digits", r#""timestamp":"12026-01-31T12:00:00Z""#, "timestamp"),
        at("a year before the first", r#""timestamp":"0000-01-01T00:00:00Z""#, "timestamp"),
        at("a time in another format", r#""timestamp":"31.01.2026 12:00""#, "timestamp"),
        at("a time given twice", r#""timestamp":"2026-01-31","timestamp":"2026-01-31""#, "timestamp"),
        at("a source that is a number", r#""source":1"#, "source"),
        at("a source that is a list", r#""source":["shop"]"#, "source"),
        at("a source with NUL", r#""source":"\u0000""#, "source"),
        at("a source with half a surrogate pair", r#""source":"\ud83d \ude00""#, "source"),
        at("a source given twice", r#""source":"a","source":null"#, "source"),
        invalid("a source that is too long", &long_source, Some(0), Some("source")),
    ]
}

/// An event whose payload cannot be stored.
fn payloads() -> Vec<Bad> {
    let at = |what, payload: &str| {
        invalid(
            what,
            &format!(r#"[{{"id":"0","payload":0}},{{"id":"1","payload":{payload}}}]"#),
            Some(1),
            Some("payload"),
        )
    };
    vec![
        invalid("no payload", r#"{"id":"1"}"#, Some(0), Some("payload")),
        invalid("a payload given twice", r#"{"id":"1","payload":1,"payload":1}"#, Some(0), Some("payload")),
        at("a key twice", r#"{"a":1,"a":1}"#),
        at("a key twice, deeper", r#"[{"x":{"y":1,"z":2,"y":3}}]"#),
        at("a key twice, written differently", r#"{"a":1,"\u0061":2}"#),
        at("NUL in a string", r#""a\u0000b""#),
        at("NUL in a key", r#"{"a\u0000":1}"#),
        at("NUL in a list", r#"[1,["\u0000"]]"#),
        at("the first half of a surrogate pair", r#""\ud83d""#),
        at("the second half of a surrogate pair", r#""\ude00""#),
        at("a surrogate pair in the wrong order", r#""\ude00\ud83d""#),
        at("half a surrogate pair in a key", r#"{"\ud800":1}"#),
    ]
}

/// Bodies that exceed a limit.
fn limits() -> Vec<Bad> {
    let events: Vec<_> = (0..11).map(|n| format!(r#"{{"id":"{n}","payload":{n}}}"#)).collect();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = format!(r#"{}1{}"#, r#"{"a":"#.repeat(9), "}".repeat(9));
    let second = |payload: &str| format!(r#"[{{"id":"0","payload":0}},{{"id":"1","payload":{payload}}}]"#);
    let bad =
        |what, body: String, status, code, index, field| Bad { what, body: body.into(), status, code, index, field };
    let deep = |what, payload: &str| bad(what, second(payload), 422, "payload_too_deep", Some(1), Some("payload"));
    let large = |what, payload: &str| bad(what, second(payload), 413, "payload_too_large", Some(1), Some("payload"));
    vec![
        bad("an event too many", format!("[{}]", events.join(",")), 413, "too_many_events", None, Some("events")),
        deep("lists nested too deep", &nested(9)),
        deep("objects nested too deep", &objects),
        deep("lists and objects nested too deep", &format!(r#"[{{"a":{}}}]"#, nested(7))),
        large("a string that is too large", &format!("\"{}\"", "x".repeat(1_023))),
        large("a number that is too large", &"9".repeat(1_025)),
        large("nesting of 20,000 levels", &nested(20_000)),
        bad("a body that is too large", format!("\"{}\"", "x".repeat(65_535)), 413, "body_too_large", None, None),
    ]
}

/// Returns bodies that are each as large as one of the limits allows: 16 events in total.
pub fn just_within_the_limits() -> Vec<Vec<u8>> {
    let one = |id: &str, payload: &str| format!(r#"{{"id":"{id}","payload":{payload}}}"#);
    let ten: Vec<_> = (0..10).map(|n| one(&format!("ten-{n}"), "0")).collect();
    let space = " ".repeat(65_536 - one("space", "1").len());
    let bodies = [
        format!("[{}]", ten.join(",")),
        one("deep", &format!("{}{}", "[".repeat(8), "]".repeat(8))),
        one("large", &format!("\"{}\"", "x".repeat(1_022))),
        one(&"i".repeat(512), "1"),
        format!(r#"{{"id":"topic","payload":1,"topic":"{}"}}"#, "t".repeat(256)),
        format!(r#"{{"id":"source","payload":1,"source":"{}"}}"#, "s".repeat(512)),
        format!("{}{space}", one("space", "1")),
    ];
    bodies.map(String::into_bytes).into()
}

fn malformed(what: &'static str, body: Vec<u8>) -> Bad {
    Bad { what, body, status: 400, code: "malformed_json", index: None, field: None }
}

fn invalid(what: &'static str, body: &str, index: Option<u64>, field: Option<&'static str>) -> Bad {
    Bad { what, body: body.into(), status: 422, code: "invalid_event", index, field }
}
