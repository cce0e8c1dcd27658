//! `completions`: scripts that complete the command line, and what they ask the program for.

use clap::{Arg, Command as Definition, ValueEnum};
use clap_complete::{Shell, generate};

use super::{Out, write};
use crate::context::Context;
use crate::outcome::Outcome;
use crate::resource::Resource;

/// The program that kubectl runs to complete `kubectl sluice`, by its name.
const FOR_KUBECTL: &str = "#!/bin/sh\nexec kubectl-sluice __complete -- \"$@\"\n";
/// What kubectl offers beside the words: nothing.
const NO_FILES: &str = ":4";
/// Names of files, where there are no words.
const FILES: &str = ":0";
/// The most names of resources that are offered.
const MAX_NAMES: u32 = 200;

/// Prints a script that completes the command line
///
/// For `kubectl sluice`, save that of kubectl as an executable file kubectl_complete-sluice on the PATH:
/// kubectl sluice completions kubectl > ~/.local/bin/kubectl_complete-sluice && chmod +x ~/.local/bin/kubectl_complete-sluice.
/// The others are for the program kubectl-sluice itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell, or kubectl
    #[arg(value_name = "kubectl|bash|zsh|fish", hide_possible_values = true)]
    pub shell: Target,
}

/// Who reads the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names of the shells")]
pub enum Target {
    Kubectl,
    Bash,
    Zsh,
    Fish,
}

/// The words of a command line that is being written, of which the last one is to be completed.
#[derive(Debug, clap::Args)]
pub struct Words {
    /// The words after `kubectl sluice`.
    #[arg(last = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// Writes the script.
///
/// # Errors
/// If it cannot be written.
pub fn script(definition: &mut Definition, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let shell = match args.shell {
        Target::Kubectl => {
            write(out, FOR_KUBECTL)?;
            return Ok(Outcome::Done);
        }
        Target::Bash => Shell::Bash,
        Target::Zsh => Shell::Zsh,
        Target::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    // The scripts are for the program: its name has no space.
    let mut definition = definition.clone().bin_name("kubectl-sluice");
    generate(shell, &mut definition, "kubectl-sluice", &mut script);
    write(out, &String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

/// Writes the words that can stand at the end of a command line, in the form that kubectl reads.
///
/// # Errors
/// If they cannot be written.
pub async fn complete(
    definition: &Definition,
    words: &Words,
    context: &Context,
    out: Out<'_>,
) -> anyhow::Result<Outcome> {
    let (last, before) = words.words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let (mut offered, is_complete) = match offered(definition, before, last) {
        Offered::Words(words) => (words, true),
        Offered::Names => (names(context).await, true),
        Offered::Files => (Vec::new(), false),
    };
    offered.retain(|word| word.starts_with(last));
    offered.push(if is_complete { NO_FILES } else { FILES }.to_owned());
    write(out, &(offered.join("\n") + "\n"))?;
    Ok(Outcome::Done)
}

/// What can stand at a place.
#[derive(Debug, PartialEq, Eq)]
enum Offered {
    Words(Vec<String>),
    Names,
    Files,
}

fn offered(root: &Definition, before: &[String], last: &str) -> Offered {
    let (mut definition, mut has_name, mut value_of) = (root, false, None);
    for word in before {
        if value_of.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            value_of = option(root, definition, word).filter(|arg| takes_value(arg) && !word.contains('='));
        } else if let Some(sub) = definition.find_subcommand(word).filter(|sub| !sub.is_hide_set()) {
            definition = sub;
        } else {
            has_name = true;
        }
    }
    if let Some(arg) = value_of {
        let values: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        return if values.is_empty() { Offered::Files } else { Offered::Words(values) };
    }
    if last.starts_with('-') {
        let all = definition.get_arguments().chain(root.get_arguments()).filter(|arg| !arg.is_hide_set());
        let mut options: Vec<_> = all.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
        options.sort();
        options.dedup();
        return Offered::Words(options);
    }
    let positional = definition.get_positionals().next();
    match positional {
        Some(arg) if !has_name && arg.get_id() == "name" => Offered::Names,
        Some(arg) if !has_name => {
            Offered::Words(arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect())
        }
        _ => {
            let shown = definition.get_subcommands().filter(|sub| !sub.is_hide_set());
            Offered::Words(shown.map(|sub| sub.get_name().to_owned()).collect())
        }
    }
}

fn option<'d>(root: &'d Definition, definition: &'d Definition, word: &str) -> Option<&'d Arg> {
    let name = word.split('=').next().unwrap_or(word);
    let is = |arg: &&Arg| match name.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => name.chars().nth(1) == arg.get_short() && name.len() == 2,
    };
    definition.get_arguments().find(is).or_else(|| root.get_arguments().find(is))
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

/// Returns the names of the resources of the namespace, or none if they cannot be read.
async fn names(context: &Context) -> Vec<String> {
    let list = kube::api::ListParams::default().limit(MAX_NAMES);
    let Ok(api) = context.resources() else { return Vec::new() };
    let found = context.answer("names", api.list(&list)).await;
    found.map(|list| list.items.into_iter().map(|object| Resource::of(object).name()).collect()).unwrap_or_default()
}
