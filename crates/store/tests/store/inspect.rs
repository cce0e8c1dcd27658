//! Dead letters as people look at them: filtered, in bounded pages, and discarded.

use sluice_store::NewDeadLetter;
use sluice_store::commit::Batch;
use sluice_store::inspect::{DeadLetterQuery, KILLS_ITS_READER};
use sluice_store::put_aside::PutAside;

use crate::batches::*;
use crate::ledger::ledger;
use crate::stores::TestStore;

fn of(limit: u32) -> DeadLetterQuery {
    DeadLetterQuery { limit, ..DeadLetterQuery::default() }
}

/// Puts an entry of one event aside, with this code.
async fn put_aside(test: &TestStore, code: &str) {
    let letter = letter(events([0]));
    let dead_letter = NewDeadLetter { code: code.into(), ..letter.dead_letter.clone() };
    test.commit(&Batch { dead_letters: vec![PutAside { dead_letter, ..letter }], ..Batch::default() }).await;
}

async fn codes(test: &TestStore, query: DeadLetterQuery) -> Vec<String> {
    let page = test.store.dead_letter_page(&query).await.unwrap();
    page.dead_letters.into_iter().map(|letter| letter.content.code).collect()
}

pub async fn dead_letters_are_selected_by_code_and_time(test: TestStore) {
    for code in ["a", "b", "a"] {
        put_aside(&test, code).await;
    }
    assert_eq!(codes(&test, of(9)).await, ["a", "b", "a"]);
    assert_eq!(codes(&test, DeadLetterQuery { code: Some("a".into()), ..of(9) }).await, ["a", "a"]);
    assert!(codes(&test, DeadLetterQuery { code: Some("A".into()), ..of(9) }).await.is_empty());
    let (early, late) = (Some(at("2026-01-01T00:00:00Z")), Some(at("2999-01-01T00:00:00Z")));
    assert_eq!(codes(&test, DeadLetterQuery { since: early, until: late, ..of(9) }).await.len(), 3);
    assert!(codes(&test, DeadLetterQuery { since: late, ..of(9) }).await.is_empty());
    assert!(codes(&test, DeadLetterQuery { until: early, ..of(9) }).await.is_empty());

    let page = test.store.dead_letter_page(&of(2)).await.unwrap();
    assert_eq!(page.dead_letters.len(), 2);
    assert_eq!(codes(&test, DeadLetterQuery { before: page.next, ..of(2) }).await, ["a"]);
}

pub async fn a_page_of_large_dead_letters_ends_early_and_goes_on(test: TestStore) {
    test.refuse_poison().await;
    let payload = format!("\"poison {}\"", "x".repeat(400 << 10));
    test.commit(&batch_of((0..5).map(|id| event("t", id, &payload)).collect())).await;
    let (mut query, mut pages, mut found) = (of(100), 0, 0);
    loop {
        let page = test.store.dead_letter_page(&query).await.unwrap();
        let bytes: usize = page.dead_letters.iter().map(|letter| letter.content.body.len()).sum();
        assert!(bytes <= 1 << 20, "{bytes}");
        assert!(page.dead_letters.iter().all(|letter| letter.content.body.len() > 400 << 10), "a body is missing");
        (pages, found) = (pages + 1, found + page.dead_letters.len());
        query.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!((pages, found), (3, 5));
}

pub async fn a_list_never_has_the_body_of_a_whole_entry(test: TestStore) {
    put_aside(&test, KILLS_ITS_READER).await;
    let page = test.store.dead_letter_page(&of(9)).await.unwrap();
    assert_eq!((page.dead_letters.len(), page.dead_letters[0].content.body.len()), (1, 0));
    assert!(!test.store.dead_letters(None, 1).await.unwrap()[0].content.body.is_empty(), "it is there for a replay");
}

pub async fn what_killed_its_reader_is_selected_for_a_replay_only_by_its_code(test: TestStore) {
    put_aside(&test, KILLS_ITS_READER).await;
    put_aside(&test, "undecodable").await;
    let selected = async |code: Option<&str>| {
        let query = DeadLetterQuery { code: code.map(str::to_owned), ..of(9) };
        let selected = test.store.dead_letter_ids(&query).await.unwrap().dead_letters;
        selected.into_iter().map(|letter| letter.code).collect::<Vec<_>>()
    };
    assert_eq!(selected(None).await, ["undecodable"]);
    assert_eq!(selected(Some(KILLS_ITS_READER)).await, [KILLS_ITS_READER]);
}

pub async fn a_discarded_dead_letter_is_gone_and_counted(test: TestStore) {
    test.refuse_poison().await;
    test.commit(&batch_of(vec![event("t", 1, "\"poison\"")])).await;
    test.commit(&Batch { dead_letters: vec![letter(events(0..4))], ..Batch::default() }).await;
    let ids: Vec<_> = test.store.dead_letters(None, 9).await.unwrap().iter().map(|letter| letter.id).collect();
    let discard = async |id| test.store.discard_dead_letter(id, "replica/replay").await.unwrap();
    assert_eq!([discard(ids[0]).await, discard(ids[1]).await], [Some(4), Some(1)]);
    assert_eq!([discard(ids[0]).await, discard(-1).await], [None, None]);
    assert_eq!(test.statistics().await.dead_lettered, 0);
    assert_eq!([ledger(&test, "discarded", "").await, ledger(&test, "discarded", "t").await], [4, 1]);
}
