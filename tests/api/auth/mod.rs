//! Authentication and authorization.

mod bad_tokens;
mod browsers;
mod issuer;
mod jwt;
mod limits;
mod rotation;
mod table;
mod tokens;
mod topics;

use std::path::PathBuf;
use std::process::Stdio;

use sluice_tests::{Backend, Setup, System, dirs, process, program};

/// The file of `--tokens` of a test.
struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    /// Creates a file without tokens.
    fn new() -> Self {
        let path = dirs::fresh("tokens").join("tokens.yaml");
        std::fs::write(&path, "[]\n").expect("the file");
        Self { path }
    }

    /// Makes a token with `sluice-publisher token`, and adds its item to the file. `settings` are separated by spaces.
    async fn add(&self, settings: &str) -> String {
        let (token, item) = make(settings).await;
        let before = self.content();
        self.replace(&(before.trim_start_matches("[]\n").to_owned() + &item));
        token
    }

    fn content(&self) -> String {
        std::fs::read_to_string(&self.path).expect("the file")
    }

    /// Replaces the file as a whole, so that no half of it is ever read.
    fn replace(&self, content: &str) {
        let next = self.path.with_extension("next");
        std::fs::write(&next, content).expect("the next file");
        std::fs::rename(next, &self.path).expect("the file");
    }
}

/// Makes a token with `sluice-publisher token`. Returns it and its item.
async fn make(settings: &str) -> (String, String) {
    let mut command = process::command(&program::find("sluice-publisher"), None);
    command.arg("token").args(settings.split(' ')).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().expect("the program runs"));
    let output = output.await.expect("the task does not panic");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("a text");
    let (token, rest) = text.split_once('\n').expect("lines");
    let (_, item) = rest.split_at(rest.find("- name").expect("an item"));
    (token.to_owned(), item.to_owned())
}

/// Starts a system whose programs all need the tokens of a file.
async fn start(backend: Backend, file: &TokenFile) -> System {
    setup(backend, file).start().await
}

fn setup(backend: Backend, file: &TokenFile) -> Setup {
    Setup::new(backend).env("SLUICE_TOKENS", &file.path.display().to_string())
}
