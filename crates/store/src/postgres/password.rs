//! The password of the database in a file, which may change while the programs run.
//!
//! PostgreSQL has one password for a role, and no moment at which it and all files change together. So the file may have
//! two, the one in force and the next: the second is tried when the first is refused.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sqlx::Error;

use super::hosts;

const OPTION: &str = "--database-password-file";
/// The largest file that is read.
const MAX_BYTES: u64 = 4096;
/// The one in force and the next. Each one that is refused is a failed login for the server.
const MAX_PASSWORDS: usize = 2;

/// Reads the passwords of a file: one in each line.
///
/// # Errors
/// The name of the option and the reason. No part of the file is in it.
pub(super) fn read(file: &Path) -> Result<Vec<String>, String> {
    let cannot = |reason: &dyn std::fmt::Display| format!("{OPTION}: {} {reason}", file.display());
    let mut content = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut content));
    read.map_err(|error| cannot(&format_args!("cannot be read: {error}")))?;
    if content.len() as u64 > MAX_BYTES {
        return Err(cannot(&format_args!("has more than {MAX_BYTES} bytes")));
    }
    let text = String::from_utf8(content).map_err(|_| cannot(&"is not text in UTF-8"))?;
    let passwords: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    match passwords.len() {
        0 => Err(cannot(&"has no password")),
        1..=MAX_PASSWORDS => Ok(passwords),
        _ => Err(cannot(&format_args!("has more than {MAX_PASSWORDS} lines with passwords"))),
    }
}

/// Returns whether the server has refused the password.
pub(super) fn is_refused(error: &Error) -> bool {
    error.as_database_error().is_some_and(|refusal| refusal.code().is_some_and(|code| code == "28P01"))
}

/// Checks that the file can be used, and that the URL has no password beside it.
///
/// # Errors
/// The name of the option and the reason.
pub fn check_password_file(url: &str, file: Option<&Path>) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    let has_password =
        |url: &url::Url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password");
    if hosts::split(url)?.urls.iter().any(has_password) {
        return Err(format!("{OPTION}: --database-url has a password already"));
    }
    read(file).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &[u8]) -> std::path::PathBuf {
        let file = std::env::temp_dir().join(format!("sluice-password-{}-{name}", std::process::id()));
        std::fs::write(&file, content).unwrap();
        file
    }

    #[test]
    fn each_line_is_a_password_and_spaces_belong_to_it() {
        for (name, content, expected) in [
            ("one", "secret", &["secret"][..]),
            ("ended", "secret\n", &["secret"]),
            ("windows", "secret\r\n", &["secret"]),
            ("two", "old one\n\n new\n", &["old one", " new"]),
        ] {
            let file = file(name, content.as_bytes());
            assert_eq!(read(&file).unwrap(), expected, "{name}");
            std::fs::remove_file(file).unwrap();
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_by_the_name_of_the_option_without_its_content() {
        for (name, content, expected) in [
            ("empty", &b"\n"[..], "has no password"),
            ("three", b"hidden\nb\nc", "more than 2 lines"),
            ("binary", b"hidden\xff", "is not text in UTF-8"),
            ("long", &[b'h'; 5000], "more than 4096 bytes"),
        ] {
            let file = file(name, content);
            let refused = check_password_file("postgres://user@host/x", Some(&file)).unwrap_err();
            assert!(refused.starts_with(OPTION) && refused.contains(expected), "{refused}");
            assert!(!refused.contains("hidden"), "{refused}");
            std::fs::remove_file(file).unwrap();
        }
        let refused = check_password_file("postgres://user@host/x", Some(Path::new("/no/such/file"))).unwrap_err();
        assert!(refused.starts_with(OPTION) && refused.contains("cannot be read"), "{refused}");
        for url in ["postgres://user:one@a,b/x", "postgres://user@host/x?password=one"] {
            let refused = check_password_file(url, Some(Path::new("/no/such/file"))).unwrap_err();
            assert_eq!(refused, "--database-password-file: --database-url has a password already");
        }
    }
}
