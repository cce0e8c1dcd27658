//! The errors of a payload.

/// Why a payload is refused. The texts are sent to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// One object has the same key twice.
    #[error("has the key \"{0}\" twice in one object")]
    DuplicateKey(String),
    /// PostgreSQL cannot store the character U+0000.
    #[error("contains NUL (\\u0000), which cannot be stored")]
    Nul,
    /// Half of a UTF-16 surrogate pair is not a character.
    #[error("contains a lone surrogate (\\ud800 to \\udfff without its other half)")]
    LoneSurrogate,
    /// More levels of arrays and objects than allowed.
    #[error("is nested deeper than {0} levels")]
    TooDeep(usize),
    /// The text is not JSON.
    #[error("is not valid JSON")]
    Malformed,
}
