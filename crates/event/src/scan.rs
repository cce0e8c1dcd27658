//! Finds the end of each token of JSON text (RFC 8259). No token is copied.

/// Returns the end of the white space that begins at `at`.
#[inline]
pub(crate) fn space(json: &[u8], mut at: usize) -> usize {
    while matches!(json.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// Returns the end of the literal part of a string: the position of the next `"`, `\` or control
/// character (which no string may contain), or the end of the text.
#[inline]
pub(crate) fn plain(json: &[u8], mut at: usize) -> usize {
    // Eight bytes at a time: most strings are too short to fill a wider register.
    while let Some(eight) = json.get(at..).and_then(<[u8]>::first_chunk) {
        let found = ends_plain(u64::from_le_bytes(*eight));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = json.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| matches!(b, b'"' | b'\\' | ..b' ')).unwrap_or(rest.len())
}

/// Sets the highest bit of each byte that is `"`, `\` or a control character. The bit of a byte above such
/// a one may be set by mistake; the lowest bit that is set is always correct. (The method is that of
/// "Determine if a word has a byte less than n" in Sean Anderson's Bit Twiddling Hacks.)
#[inline]
fn ends_plain(eight: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    // Sets the bit of each byte below 0x80 that is smaller than `limit`.
    let below = |bytes: u64, limit: u64| bytes.wrapping_sub(ONES * limit) & !bytes;
    // 0x22 (`"`) with bit 1 flipped is 0x20, directly after the control characters, and no other byte
    // above them moves below 0x21: one comparison finds both.
    let quote_or_control = below(eight ^ (ONES * 0x02), 0x21);
    let backslash = below(eight ^ (ONES * 0x5c), 1);
    (quote_or_control | backslash) & (ONES * 0x80)
}

/// Returns the end of the number that begins at `at`; `None` when there is none.
#[inline]
pub(crate) fn number(json: &[u8], mut at: usize) -> Option<usize> {
    if json.get(at) == Some(&b'-') {
        at += 1;
    }
    // No digit may follow a leading zero.
    at = if json.get(at) == Some(&b'0') { at + 1 } else { digits(json, at)? };
    if json.get(at) == Some(&b'.') {
        at = digits(json, at + 1)?;
    }
    if matches!(json.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(json.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = digits(json, at)?;
    }
    Some(at)
}

/// Returns the end of one or more digits that begin at `begin`.
#[inline]
fn digits(json: &[u8], begin: usize) -> Option<usize> {
    let mut at = begin;
    while matches!(json.get(at), Some(b'0'..=b'9')) {
        at += 1;
    }
    (at > begin).then_some(at)
}

/// Returns the end of `true`, `false` or `null` at `at`; `None` when there is none of them.
#[inline]
pub(crate) fn literal(json: &[u8], at: usize) -> Option<usize> {
    let rest = json.get(at..)?;
    let length = match rest {
        [b't', b'r', b'u', b'e', ..] | [b'n', b'u', b'l', b'l', ..] => 4,
        [b'f', b'a', b'l', b's', b'e', ..] => 5,
        _ => return None,
    };
    Some(at + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_part_of_a_string_ends_at_a_quote_a_backslash_or_a_control_character() {
        for before in 0..20 {
            for byte in 0..=u8::MAX {
                let mut text = vec![b'a'; before];
                text.push(byte);
                text.extend_from_slice(b"\x80\x9f\"bcdefgh\"");
                let ends = matches!(byte, b'"' | b'\\' | 0..0x20);
                assert_eq!(plain(&text, 0), if ends { before } else { before + 3 }, "{byte:#x} after {before}");
            }
        }
        let text = "žluťoučký kůň";
        assert_eq!(plain(text.as_bytes(), 0), text.len());
    }

    #[test]
    fn numbers_are_those_of_the_json_grammar() {
        for (text, end) in [
            ("0", Some(1)),
            ("-0.0e-0,", Some(7)),
            ("10.25E+3]", Some(8)),
            ("01", Some(1)),
            ("1.", None),
            (".5", None),
            ("+1", None),
            ("-", None),
            ("1e", None),
            ("1e+", None),
            ("", None),
        ] {
            assert_eq!(number(text.as_bytes(), 0), end, "{text}");
        }
    }
}
