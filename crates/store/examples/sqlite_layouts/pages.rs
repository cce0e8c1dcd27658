//! How long queries of events take that are in many tables.

use std::path::Path;
use std::time::Instant;

use sqlx::AssertSqlSafe;

use crate::events::{ROW, key, repeat, values};
use crate::file::open;

/// Lists events that are in so many tables.
pub async fn pages(folder: &Path, tables: u64) {
    let file = folder.join(format!("pages-{tables}.db"));
    std::fs::create_dir_all(folder).unwrap();
    let mut writer = open(&file).await;
    let mut view = Vec::new();
    for number in 0..tables {
        let t = format!("rows_{number}");
        let create = format!("CREATE TABLE {t} ({ROW}); CREATE INDEX t_{number} ON {t} (topic); BEGIN");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut writer).await.unwrap();
        for first in (number * 2_048..(number + 1) * 2_048).step_by(256) {
            let rows: Vec<_> = (first..first + 256).map(|number| (key(number), number)).collect();
            let text = format!("INSERT INTO {t} VALUES {}", repeat("(?,?,?,?,?,?,?,?,?,?)", 256));
            sqlx::query_with(AssertSqlSafe(text), values(&rows)).execute(&mut writer).await.unwrap();
        }
        sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
        view.push(format!("SELECT * FROM {t}"));
    }
    let all = view.join(" UNION ALL ");
    let sql = format!(
        "UPDATE rows_0 SET topic = 'rare' WHERE seq <= 10; CREATE VIEW events AS {all}; \
         CREATE TABLE one_table ({ROW}); INSERT INTO one_table {all}; CREATE INDEX one_topic ON one_table (topic)"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut writer).await.unwrap();
    for from in ["events", "one_table"] {
        for what in ["", "WHERE topic = 'orders'", "WHERE topic = 'rare'"] {
            let text = format!("SELECT * FROM {from} {what} ORDER BY seq DESC LIMIT 100");
            let began = Instant::now();
            let mut reader = open(&file).await;
            let opened = began.elapsed();
            let select = || sqlx::query(AssertSqlSafe(text.clone()));
            select().fetch_all(&mut reader).await.unwrap();
            let first = began.elapsed() - opened;
            let began = Instant::now();
            for _ in 0..20 {
                select().fetch_all(&mut reader).await.unwrap();
            }
            let again = began.elapsed() / 20;
            println!("{tables} tables, {from} {what}: opened in {opened:.1?}, first {first:.1?}, again {again:.1?}");
        }
    }
}
