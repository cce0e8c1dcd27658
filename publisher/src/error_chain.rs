//! An error with its causes, as one line.

/// Returns an error's text followed by the texts of its causes, separated by colons. The text of an
/// HTTP client's error alone does not say "connection refused".
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(error.source(), |cause| cause.source());
    chain.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
