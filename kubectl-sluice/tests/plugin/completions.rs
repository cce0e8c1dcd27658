//! Completion of the command line.

use crate::desk::Desk;

#[tokio::test]
async fn commands_options_and_names_are_completed_in_the_form_that_kubectl_reads() {
    let desk = Desk::new();
    for (line, expected) in [
        ("__complete -- sta", "status\nstats\n:4\n"),
        ("__complete -- stats ", "ledger\n:4\n"),
        ("__complete -- -n accounts stats l", "ledger\n:4\n"),
        ("__complete -- stats lo", ":4\n"),
        ("__complete -- stats ledger --top", "--topics\n:4\n"),
        ("__complete -- stats ledger -o ", "text\njson\n:4\n"),
        ("__complete -- publish ledger --file ", ":0\n"),
        ("__complete -- dead-letters ledger re", "replay\n:4\n"),
        ("__complete -- completions z", "zsh\n:4\n"),
    ] {
        let done = desk.run(line).await;
        assert_eq!((done.code, done.out.as_str()), (0, expected), "{line}: {}", done.err);
    }
}

#[tokio::test]
async fn there_is_a_script_for_each_shell_and_for_kubectl() {
    let desk = Desk::new();
    for (shell, expected) in [
        ("bash", "complete -F _kubectl__sluice -o"),
        ("zsh", "#compdef kubectl-sluice"),
        ("fish", "complete -c kubectl-sluice"),
        ("kubectl", "exec kubectl-sluice __complete -- \"$@\""),
    ] {
        let done = desk.run(&format!("completions {shell}")).await;
        assert!(done.code == 0 && done.out.contains(expected), "{shell}: {}", done.out);
    }
}
