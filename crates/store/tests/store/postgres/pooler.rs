//! A pooler in front of the database: in session mode it works as the server does, and otherwise it is refused.

use sluice_store::commit::commit;
use sluice_store::postgres::{PostgresSettings, PostgresStore};
use sluice_store::{Store, StoreError};
use sluice_tests::pgbouncer::PgBouncer;
use sluice_tests::postgres::PostgresServer;
use sqlx::{Connection, PgConnection};

use crate::batches::*;
use crate::stores::{direct, on_server, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_share_a_pooler_in_session_mode_and_each_keeps_to_its_schema() {
    let server = PostgresServer::start(false);
    let pooler = PgBouncer::start(&server.address(), "session");
    let mut stores = Vec::new();
    for schema in ["one", "other"] {
        let settings = PostgresSettings { url: pooler.url(), schema: schema.to_owned(), ..on_server(&server) };
        let store = PostgresStore::connect(&settings).unwrap();
        store.migrate().await.unwrap();
        stores.push((store, settings));
    }
    for (store, settings) in &stores {
        for id in ["1", "2", "1"] {
            commit(store, &options(settings.keyer.clone()), &batch_of(events([id]))).await.unwrap();
        }
        store.ping().await.unwrap();
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut direct(settings).await).await.unwrap();
        assert_eq!(rows, 2, "in {}", settings.schema);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_shares_sessions_is_refused_before_a_table_is_created() {
    let server = PostgresServer::start(false);
    let pooler = PgBouncer::start(&server.address(), "transaction");
    let settings = PostgresSettings { url: pooler.url(), ..on_server(&server) };
    // Alone, beside sessions that are free, and while others take them.
    for busy in [false, false, true] {
        let mut other = PgConnection::connect(&pooler.url()).await.unwrap();
        let open = if busy { other.begin().await.ok() } else { None };
        let refused = PostgresStore::connect(&settings).unwrap().migrate().await.unwrap_err();
        drop(open);
        assert!(
            matches!(&refused, StoreError::Failed(reason) if reason.contains("must be in session mode")),
            "{refused}"
        );
    }
    let exists = "SELECT count(*) FROM pg_namespace WHERE nspname = 'sluice'";
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let schemas: i64 = sqlx::query_scalar(exists).fetch_one(&mut connection).await.unwrap();
    assert_eq!(schemas, 0);
}
