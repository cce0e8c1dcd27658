//! What holds the feed back, and what does not.

use sluice_store::feed::Start;
use sluice_tests::postgres::PostgresServer;
use sqlx::{Connection, Executor, PgConnection};

use crate::batches::*;
use crate::feed::{commit, from, ids, page, uncommitted};
use crate::stores::{Place, TestStore, direct, on_server};

async fn beside(test: &TestStore) -> PgConnection {
    let Place::Postgres(settings) = &test.place else { unreachable!("it is on PostgreSQL") };
    direct(settings).await
}

/// Returns the ids of everything that is shown.
async fn shown(test: &TestStore) -> Vec<String> {
    ids(&page(test, &from(Start::Oldest)).await).into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_slow_transaction_can_still_precede_is_not_shown() {
    let test = TestStore::postgres().await;
    test.commit(&batch_of(events(["first"]))).await;
    let slow = uncommitted(&test, &events(["slow"])).await.unwrap();
    let given_up = uncommitted(&test, &events(["given up"])).await.unwrap();
    test.commit(&batch_of(events(["fast"]))).await;
    assert_eq!(shown(&test).await, ["first"]);
    commit(slow).await.unwrap();
    assert_eq!(shown(&test).await, ["first", "slow"]);
    given_up.rollback().await;
    assert_eq!(shown(&test).await, ["first", "slow", "fast"]);
}

/// A writer stands still after it has drawn its number, and before it shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_drawn_and_not_shown_yet_holds_the_feed_back() {
    let test = TestStore::postgres().await;
    test.commit(&batch_of(events(["first"]))).await;
    let mut writer = beside(&test).await;
    writer.execute("BEGIN; LOCK TABLE ONLY receipts IN ROW EXCLUSIVE MODE").await.unwrap();
    let drawn: i64 = sqlx::query_scalar("SELECT draw_batch()").fetch_one(&mut writer).await.unwrap();
    test.commit(&batch_of(events(["fast"]))).await;
    assert_eq!(shown(&test).await, [""; 0], "its number may be any");
    let show = sqlx::query("SELECT show_batch($1)").bind(drawn);
    show.execute(&mut writer).await.unwrap();
    assert_eq!(shown(&test).await, ["first"]);
    let insert = sqlx::query(
        "INSERT INTO event_rows (key, seq, ts, received_at, payload_hash, request_id, topic, event_id, payload) \
         VALUES (gen_random_uuid(), $1 << 20, now(), now(), gen_random_uuid(), gen_random_uuid(), 't', 'slow', '{}')",
    );
    insert.bind(drawn).execute(&mut writer).await.unwrap();
    writer.execute("COMMIT").await.unwrap();
    assert_eq!(shown(&test).await, ["first", "slow", "fast"]);
}

/// The reader stands still after it has begun. The slow transaction ends meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_read_as_they_are_after_the_horizon_was_found() {
    let test = TestStore::postgres().await;
    test.run(
        "CREATE OR REPLACE FUNCTION last_batch() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE last bigint; BEGIN \
         SELECT last_value INTO last FROM batches; PERFORM pg_sleep(2); RETURN last; END $$",
    )
    .await;
    let slow = uncommitted(&test, &events(["slow"])).await.unwrap();
    test.commit(&batch_of(events(["fast"]))).await;
    let end = async {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        commit(slow).await.unwrap();
    };
    let (shown, ()) = tokio::join!(shown(&test), end);
    assert_eq!(shown, ["slow", "fast"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_of_others_hold_nothing_back() {
    let server = tokio::task::block_in_place(|| PostgresServer::start_with("max_prepared_transactions = 4"));
    let test = TestStore::on_postgres(on_server(&server)).await;
    test.commit(&batch_of(events(["first"]))).await;
    let mut idle = beside(&test).await;
    idle.execute("CREATE TABLE public.others (n int)").await.unwrap();
    let write = "BEGIN ISOLATION LEVEL REPEATABLE READ; \
                 INSERT INTO public.others VALUES (1); SELECT pg_advisory_xact_lock(1)";
    sqlx::raw_sql(write).execute(&mut idle).await.unwrap();
    sqlx::query("SELECT count(*) FROM events, receipts, settings").execute(&mut idle).await.unwrap();
    let mut prepared = beside(&test).await;
    let prepare = "BEGIN; CREATE TABLE public.prepared (n int); SELECT FROM receipts; PREPARE TRANSACTION 'long'";
    sqlx::raw_sql(prepare).execute(&mut prepared).await.unwrap();
    test.commit(&batch_of(events(["second"]))).await;
    assert_eq!(shown(&test).await, ["first", "second"]);
    sqlx::raw_sql("ROLLBACK PREPARED 'long'").execute(&mut prepared).await.unwrap();
    idle.close().await.unwrap();
}

/// The log of the restored system may be empty, so that it does not know that anything is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_restored_from_a_dump_begins_a_generation() {
    let server = tokio::task::block_in_place(|| PostgresServer::start(false));
    let test = TestStore::on_postgres(on_server(&server)).await;
    test.commit(&batch_of(events(["kept"]))).await;
    let file = sluice_tests::dirs::fresh("dump").join("dump");
    tokio::task::block_in_place(|| server.dump(&file));
    for id in ["lost", "lost too"] {
        test.commit(&batch_of(events([id]))).await;
    }
    let before = page(&test, &from(Start::Oldest)).await;
    let restored = tokio::task::block_in_place(|| PostgresServer::restored_from(&file));
    let test = TestStore::on_postgres(on_server(&restored)).await;
    for id in ["new", "newer", "newest"] {
        test.commit(&batch_of(events([id]))).await;
    }
    let after = page(&test, &from(Start::After(before.next))).await;
    assert_eq!(ids(&after), ["new", "newer", "newest"]);
    assert!(after.repeated_from.is_some() && after.generation != before.generation, "{after:?}");
    // The next start finds nothing new.
    let again = TestStore::on_postgres(on_server(&restored)).await;
    assert_eq!(page(&again, &from(Start::Oldest)).await.generation, after.generation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_partition_holds_nothing_back_and_no_number_is_shown_after_its_transaction() {
    let test = TestStore::postgres().await;
    for id in 0..5 {
        test.commit(&batch_of(events([id]))).await;
        test.close_partition().await;
    }
    assert_eq!(shown(&test).await, ["0", "1", "2", "3", "4"]);
    let held = test.number(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND mode = 'ShareLock' \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND ((classid::int8 << 32) | objid::int8) >> 43 = 'receipts'::regclass::oid::int8 % 1048576",
    );
    assert_eq!(held.await, 0);
}
