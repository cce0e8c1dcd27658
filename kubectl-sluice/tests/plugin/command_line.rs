//! The command line itself.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use kubectl_sluice::cli::Cli;

#[test]
fn the_definition_of_the_command_line_has_no_contradictions() {
    Cli::command().debug_assert();
}

#[test]
fn wrong_usage_is_refused_before_anything_is_asked() {
    for line in [
        "publish shop --id 1",
        "publish shop --file - --payload 1 --id 1",
        "dead-letters shop discard 7",
        "dead-letters shop replay",
        "dead-letters shop replay 7 --all",
        "events shop --id 1",
        "status shop -A",
        "stats shop --as-group admins",
        "logs shop -c database",
        "--request-timeout 1 status",
    ] {
        let words = std::iter::once("kubectl-sluice").chain(line.split(' '));
        let error = Cli::try_parse_from(words).err().map(|error| error.kind());
        assert!(!matches!(error, None | Some(ErrorKind::DisplayHelp)), "{line}: {error:?}");
    }
}

#[test]
fn global_options_may_stand_on_either_side_of_the_command() {
    for line in ["-n a --as eve status shop", "status shop -n a --as eve"] {
        let cli = Cli::try_parse_from(std::iter::once("kubectl-sluice").chain(line.split(' '))).unwrap();
        assert_eq!((cli.global.namespace.as_deref(), cli.global.impersonate.as_deref()), (Some("a"), Some("eve")));
    }
}
