//! What is said where there is no pod for a command.

use serde_json::json;

use crate::desk::Desk;

#[tokio::test]
async fn commands_that_need_a_pod_say_which_one_is_missing() {
    let desk = Desk::new();
    desk.put_pod("ledger-publisher-a", "publisher", json!({"phase": "Pending"}));
    desk.put_pod("ledger-aggregator-0", "aggregator", json!({"phase": "Pending"}));
    for (line, expected) in [
        ("stats ledger", "none of its 1 publisher pods is ready"),
        ("audit ledger", "the audit runs in an aggregator, and none of its aggregators runs"),
        ("logs ledger -c postgres", "it has no such pods"),
        ("logs lodger", "there is none of this name"),
    ] {
        let done = desk.run(line).await;
        assert_eq!(done.code, 1, "{line}: {done:?}");
        assert!(
            done.err.starts_with("error: eventaggregator accounts/l") && done.err.contains(expected),
            "{}",
            done.err
        );
    }
}
