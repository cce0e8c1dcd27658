//! Texts of a bounded length.

/// The longest reason and the longest pointer that are shown, in bytes: both may have names of a payload's members.
const MAX_BYTES: usize = 300;

/// Cuts a text off that is too long to be shown.
pub(crate) fn shown(mut text: String) -> String {
    if text.len() > MAX_BYTES {
        text.truncate(text.floor_char_boundary(MAX_BYTES));
        text.push('…');
    }
    text
}
