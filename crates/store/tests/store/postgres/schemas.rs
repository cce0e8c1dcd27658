//! Schemas, their settings, and databases that somebody else set up.

use std::time::{Duration, Instant};

use sluice_event::{EntryId, Event};
use sluice_store::postgres::{PayloadType, PostgresSettings, PostgresStore, migrate};
use sluice_store::{EventQuery, StoreError};
use sluice_tests::wait_until;
use sqlx::AssertSqlSafe;
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::{Place, TestStore, direct, fresh_schema, opened};

fn settings(test: &TestStore) -> &PostgresSettings {
    let Place::Postgres(settings) = &test.place else { unreachable!() };
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_schema_is_made_once_by_several_at_once() {
    let settings = fresh_schema();
    let mut starts = JoinSet::new();
    for start in 0..8 {
        let settings = settings.clone();
        starts.spawn(async move {
            if start % 2 == 0 { migrate(&settings).await } else { PostgresStore::connect(&settings)?.migrate().await }
        });
    }
    for started in starts.join_all().await {
        started.unwrap();
    }
    let test = TestStore::on_postgres(settings).await;
    let migrations = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres")).unwrap().count();
    assert_eq!(test.number("SELECT count(*) FROM _sqlx_migrations").await, migrations as i64);
    test.commit(&batch_of(events([1]))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_schemas_of_one_database_know_nothing_of_each_other() {
    let (one, other) = (TestStore::postgres().await, TestStore::postgres().await);
    one.commit(&batch_of(events(0..10))).await;
    assert_eq!(other.commit(&batch_of(events(0..5))).await.counts.unique, 5);
    assert_eq!((one.rows().await, other.rows().await), (10, 5));
    assert_eq!(one.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrating_alone_leaves_the_dedup_fields_open() {
    let settings = fresh_schema();
    migrate(&settings).await.unwrap();
    let other = PostgresSettings { keyer: "event_id".parse().unwrap(), ..settings.clone() };
    opened(&other).await;
    migrate(&settings).await.expect("migrating does not care about the dedup fields");
    let refused = PostgresStore::connect(&settings).unwrap().migrate().await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_is_json_or_jsonb_as_chosen_when_the_schema_was_created() {
    let json = TestStore::postgres().await;
    let column = "SELECT (atttypid = 'jsonb'::regtype)::int::int8 FROM pg_attribute \
                  WHERE attrelid = 'events'::regclass AND attname = 'payload'";
    assert_eq!(json.number(column).await, 0);

    let chosen = PostgresSettings { payload_type: PayloadType::Jsonb, ..fresh_schema() };
    let jsonb = TestStore::on_postgres(chosen).await;
    assert_eq!(jsonb.number(column).await, 1);
    // A process that was told otherwise later goes by what the schema is.
    let later = PostgresSettings { payload_type: PayloadType::Json, ..settings(&jsonb).clone() };
    let jsonb = TestStore::on_postgres(later).await;
    jsonb.commit(&batch_of(vec![event("t", 1, "{\"b\":1,  \"a\":2}")])).await;
    assert_eq!(jsonb.store.event("t", "1", 1).await.unwrap()[0].payload, "{\"a\": 2, \"b\": 1}");
    // PostgreSQL writes the number in another way: the payload has another hash, and is not damaged.
    jsonb.commit(&batch_of(vec![event("t", 2, "1e2")])).await;
    let rewritten = &jsonb.store.event("t", "2", 1).await.unwrap()[0];
    assert_eq!((&*rewritten.payload, rewritten.damaged), ("100", false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_type_of_the_column_does_not_take_is_dead_lettered() {
    let test = TestStore::on_postgres(PostgresSettings { payload_type: PayloadType::Jsonb, ..fresh_schema() }).await;
    let mut sent = events(0..20);
    // Neither passes the publisher; a writer of another version might let them through.
    sent[3] = Event { payload: "\"\\u0000\"".into(), ..event("t", 3, "0") };
    sent[4] = Event { payload: "{".into(), ..event("t", 4, "0") };
    sent[5] = Event { payload: "\"a\0b\"".into(), ..event("t", 5, "0") };
    let outcome = test.commit(&batch_of(sent)).await;
    assert_eq!((outcome.counts.unique, outcome.dead_lettered), (17, 3));
    let letters = test.store.dead_letters(None, 10).await.unwrap();
    let mut codes: Vec<_> = letters.iter().map(|letter| &*letter.content.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["22021", "22P02", "22P05"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_was_dropped_is_made_again() {
    let test = TestStore::postgres().await;
    test.commit(&batch_of(events([1]))).await;
    let name = settings(&test).schema.replace('"', "\"\"");
    test.run(&format!("DROP SCHEMA \"{name}\" CASCADE")).await;
    let gone = test.store.events(&EventQuery { limit: 1, ..EventQuery::default() }).await;
    assert!(matches!(gone, Err(StoreError::Failed(_))), "{gone:?}");
    assert_eq!(test.commit(&batch_of(events([1]))).await.counts.unique, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_create_schemas_can_use_one_that_is_there() {
    let owner = fresh_schema();
    let mut connection = direct(&owner).await;
    let (schema, role) = (owner.schema.replace('"', "\"\""), format!("role_{:032x}", EntryId::random().as_u128()));
    let make = format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA \"{schema}\" AUTHORIZATION {role}");
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut connection).await.unwrap();
    let url = owner.url.replace("postgres@", &format!("{role}@"));
    let test = TestStore::on_postgres(PostgresSettings { url: url.clone(), ..owner }).await;
    assert_eq!(test.commit(&batch_of(events([1]))).await.counts.unique, 1);

    let elsewhere = PostgresStore::connect(&PostgresSettings { url, ..fresh_schema() }).unwrap().migrate().await;
    assert!(matches!(&elsewhere, Err(StoreError::Failed(m)) if m.contains("permission denied")), "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_hold_every_character_is_refused() {
    let settings = fresh_schema();
    let create = "CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    sqlx::raw_sql(create).execute(&mut direct(&settings).await).await.unwrap();
    let narrow = PostgresSettings { url: settings.url.replace("/sluice", "/narrow"), ..settings };
    let refused = PostgresStore::connect(&narrow).unwrap().migrate().await;
    assert!(matches!(&refused, Err(StoreError::Failed(m)) if m.contains("LATIN1")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_defaults_of_the_database_change_nothing() {
    let settings = fresh_schema();
    let url =
        format!("{}?options[default_transaction_isolation]=serializable&options[synchronous_commit]=off", settings.url);
    let test = TestStore::on_postgres(PostgresSettings { url, ..settings }).await;
    crate::concurrency::overlapping_keys_in_opposite_order_lose_nothing(test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_waits_shortly_for_a_table_that_is_in_use() {
    let settings = fresh_schema();
    migrate(&settings).await.unwrap();
    let mut somebody = direct(&settings).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE _sqlx_migrations").execute(&mut somebody).await.unwrap();
    let began = Instant::now();
    let refused = migrate(&settings).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "batches would have queued for {:?}", began.elapsed());
    sqlx::raw_sql("COMMIT").execute(&mut somebody).await.unwrap();
    migrate(&settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_given_up_ends_in_the_server_too() {
    let settings = PostgresSettings { replica: EntryId::random().to_string(), ..fresh_schema() };
    migrate(&settings).await.unwrap();
    // As another process that is migrating: the wait for it is up to a minute.
    let hash = sluice_event::key::hash128_of_parts(&[b"sluice", b"migrate", settings.schema.as_bytes()]);
    let id = i64::from_be_bytes(*hash.first_chunk().unwrap());
    let mut somebody = direct(&settings).await;
    sqlx::query("SELECT pg_advisory_lock($1)").bind(id).execute(&mut somebody).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_secs(2), migrate(&settings)).await;
    assert!(given_up.is_err(), "{given_up:?}");
    wait_until("its session ends", Duration::from_secs(30), async || {
        let left = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1");
        let left = left.bind(settings.application_name()).fetch_one(&mut direct(&settings).await).await;
        let left: i64 = left.map_err(|error| error.to_string())?;
        if left == 0 { Ok(()) } else { Err(format!("{left} sessions")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_a_trigger_refuses_with_a_code_of_its_own_is_put_aside_and_the_others_are_stored() {
    for code in ["45000", "P0002", "SL001"] {
        let test = TestStore::postgres().await;
        test.run(&format!(
            "CREATE FUNCTION check_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF NEW.payload::text LIKE '%poison%' THEN RAISE EXCEPTION 'no poison' USING ERRCODE = '{code}'; END IF; \
                 RETURN NEW; END $$; \
             CREATE TRIGGER check_row BEFORE INSERT ON event_rows FOR EACH ROW EXECUTE FUNCTION check_row()"
        ))
        .await;
        let mut sent = events(0..10);
        sent[3] = event("t", 3, "\"poison\"");
        let outcome = test.commit(&batch_of(sent)).await;
        assert_eq!((outcome.counts.unique, outcome.dead_lettered), (9, 1), "{code}");
        let dead_letters = test.store.dead_letters(None, 10).await.unwrap();
        assert_eq!((dead_letters.len(), &*dead_letters[0].content.code), (1, code));
    }
}
