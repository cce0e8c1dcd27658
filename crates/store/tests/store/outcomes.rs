//! What became of a request whose client waits is recorded once, with the request.

use sluice_event::entry::Request;
use sluice_event::{EntryId, ReceiptId};
use sluice_store::commit::{Batch, replay};
use sluice_store::outcomes::RequestOutcome;

use crate::batches::*;
use crate::stores::TestStore;

/// A request whose client waits.
fn waiting(events: Vec<sluice_event::Event<'static>>) -> Request<'static> {
    Request { waits: true, ..keyed(ReceiptId::from(EntryId::random()), events) }
}

async fn outcome(test: &TestStore, request: &Request<'_>) -> Option<RequestOutcome> {
    let outcomes = test.store.outcomes(&[request.receipt.unwrap(), ReceiptId::from_u128(1)]).await.unwrap();
    assert!(outcomes.len() < 2);
    outcomes.into_iter().next()
}

fn expected(request: &Request<'_>, numbers: [u64; 4]) -> Option<RequestOutcome> {
    let [stored, duplicates, conflicts, dead_lettered] = numbers;
    Some(RequestOutcome { receipt: request.receipt.unwrap(), stored, duplicates, conflicts, dead_lettered })
}

pub async fn the_outcome_of_a_request_says_what_became_of_its_events_and_stays(test: TestStore) {
    test.commit(&batch_of(vec![event("t", 1, "1")])).await;
    let first = waiting(vec![event("t", 1, "1"), event("t", 1, "2"), event("t", 2, "2"), event("t", 3, "3")]);
    let empty = waiting(Vec::new());
    let second = waiting(vec![event("t", 2, "2"), event("u", 2, "2")]);
    let other = keyed(ReceiptId::from(EntryId::random()), vec![event("t", 9, "9")]);
    assert_eq!(outcome(&test, &first).await, None);
    let sent = batch(vec![entry(vec![first.clone(), empty.clone()]), entry(vec![second.clone(), other.clone()])]);
    test.commit(&sent).await;
    let all = [
        (&first, expected(&first, [2, 2, 1, 0])),
        (&empty, expected(&empty, [0; 4])),
        (&second, expected(&second, [1, 1, 0, 0])),
        (&other, None),
    ];
    for (request, expected) in &all {
        assert_eq!(outcome(&test, request).await, *expected);
    }
    // A repetition of the entry, and one of the request alone.
    test.commit(&again(&sent)).await;
    test.commit(&batch(vec![entry(vec![first.clone()])])).await;
    for (request, expected) in &all {
        assert_eq!(outcome(&test, request).await, *expected);
    }
    let both = test.store.outcomes(&[first.receipt.unwrap(), second.receipt.unwrap()]).await.unwrap();
    assert_eq!(both.len(), 2);
}

pub async fn the_outcome_names_what_was_refused_and_stays_when_it_is_replayed(test: TestStore) {
    test.refuse_poison().await;
    let request = waiting(vec![event("t", 1, "\"poison\""), event("t", 2, "2"), event("t", 2, "2")]);
    test.commit(&batch(vec![entry(vec![request.clone(), waiting(Vec::new())])])).await;
    assert_eq!(outcome(&test, &request).await, expected(&request, [1, 1, 0, 1]));

    let put_aside = waiting(vec![event("t", 3, "3"), event("t", 4, "4")]);
    test.commit(&Batch { dead_letters: vec![letter_of(std::slice::from_ref(&put_aside))], ..Batch::default() }).await;
    assert_eq!(outcome(&test, &put_aside).await, expected(&put_aside, [0, 0, 0, 2]));
    let id = test.store.dead_letters(None, 1).await.unwrap()[0].id;
    assert_eq!(replay(&*test.store, &test.options, id).await.unwrap().unwrap().counts.unique, 2);
    assert_eq!(outcome(&test, &put_aside).await, expected(&put_aside, [0, 0, 0, 2]));
}
