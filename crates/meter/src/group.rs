//! The values that figures are grouped by, as bytes.

/// The longest value in bytes. An event with a longer one is counted under [`OTHER`].
pub const MAX_VALUE: usize = 256;

/// The group of all that has no group of its own. No encoded group has this one byte alone.
pub const OTHER: &[u8] = &[0xff];

/// Appends the value of one field; `None` is an event without it. Returns false if it is too long.
#[inline]
pub fn push(key: &mut Vec<u8>, value: Option<&str>) -> bool {
    let Some(value) = value else {
        key.push(0);
        return true;
    };
    if value.len() > MAX_VALUE {
        return false;
    }
    // The length and one, with seven bits in a byte.
    let length = value.len() + 1;
    if length < 0x80 {
        key.push(length as u8);
    } else {
        key.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
    }
    key.extend_from_slice(value.as_bytes());
    true
}

/// Returns the values of a group; `None` for [`OTHER`], and for what is no group.
pub fn values(mut key: &[u8]) -> Option<Vec<Option<&str>>> {
    let mut values = Vec::new();
    while let Some((&first, rest)) = key.split_first() {
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (&second, rest) = rest.split_first()?;
            (usize::from(first & 0x7f) | usize::from(second) << 7, rest)
        };
        match length.checked_sub(1) {
            None => {
                values.push(None);
                key = rest;
            }
            Some(length) => {
                let (value, rest) = rest.split_at_checked(length)?;
                values.push(Some(std::str::from_utf8(value).ok()?));
                key = rest;
            }
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_group_are_those_it_was_made_of() {
        let long = "x".repeat(MAX_VALUE);
        let longer = "x".repeat(MAX_VALUE + 1);
        for expected in [
            vec![],
            vec![None],
            vec![Some(""), None, Some("ü")],
            vec![Some(&*long), Some(&long[..127]), Some(&long[..126]), Some(&long[..128])],
        ] {
            let mut key = Vec::new();
            assert!(expected.iter().all(|value| push(&mut key, *value)));
            assert_eq!(values(&key), Some(expected));
            assert_ne!(key, OTHER);
        }
        assert!(!push(&mut Vec::new(), Some(&longer)));
        assert_eq!(values(OTHER), None);
    }
}
