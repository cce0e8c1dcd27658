//! Writes the manual pages and the shell completions of all programs, for the archives of a release.
//!
//! It is a program of its own, so that those that are shipped contain neither of the generators.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

/// Where each shell looks for completions, below a folder `share`.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/site-functions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: sluice-manuals FOLDER")?;
    write(Path::new(&folder))
}

/// Returns the command lines of the programs, by their names.
fn programs() -> [(&'static str, Command); 4] {
    [
        ("sluice-aggregator", sluice_aggregator::settings::Cli::command()),
        ("sluice-publisher", sluice_publisher::settings::Cli::command()),
        ("sluice-operator", sluice_operator::settings::Cli::command()),
        ("kubectl-sluice", kubectl_sluice::cli::Cli::command()),
    ]
}

/// Writes `PROGRAM/man/man1` and the folders of the shells below `PROGRAM` for each program.
fn write(folder: &Path) -> anyhow::Result<()> {
    for (name, command) in programs() {
        // The pages are named after the program: kubectl's plugin calls itself `kubectl sluice`.
        let command = command.bin_name(name);
        let share = folder.join(name);
        let man = created(share.join("man/man1"))?;
        clap_mangen::generate_to(command.clone(), &man).with_context(|| format!("the pages of {name}"))?;
        for (shell, place) in SHELLS {
            let place = created(share.join(place))?;
            clap_complete::generate_to(shell, &mut command.clone(), name, &place)
                .with_context(|| format!("the {shell} completion of {name}"))?;
        }
        // By its file name a shell finds the completion of a command: without the suffix, as other packages do.
        rename_bash(&share.join(SHELLS[0].1), name)?;
    }
    Ok(())
}

fn rename_bash(folder: &Path, name: &str) -> anyhow::Result<()> {
    let from = folder.join(name).with_extension(OsStr::new("bash"));
    fs::rename(&from, folder.join(name)).with_context(|| from.display().to_string())
}

fn created(folder: PathBuf) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subcommand_has_a_page_and_each_program_three_completions() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for (name, command) in programs() {
            let share = folder.path().join(name);
            let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
            for page in shown.map(|sub| format!("{name}-{}", sub.get_name())).chain([name.to_owned()]) {
                let text = fs::read_to_string(share.join(format!("man/man1/{page}.1"))).expect(&page);
                assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}: {text}");
            }
            for file in [
                format!("bash-completion/completions/{name}"),
                format!("zsh/site-functions/_{name}"),
                format!("fish/vendor_completions.d/{name}.fish"),
            ] {
                let text = fs::read_to_string(share.join(&file)).expect(&file);
                let sub = command.get_subcommands().next().unwrap().get_name();
                assert!(text.contains(name) && text.contains(sub), "{file}");
            }
        }
    }

    #[test]
    fn an_option_is_explained_with_its_variable() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let page = folder.path().join("sluice-publisher/man/man1/sluice-publisher-serve.1");
        let text = fs::read_to_string(page).unwrap();
        assert!(text.contains("max\\-body\\-bytes") && text.contains("SLUICE_MAX_BODY_BYTES"), "{text}");
    }
}
