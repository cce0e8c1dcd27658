//! Stores and removes events in one of the layouts.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sluice_event::EventKey;
use sluice_event::key::hash128;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Connection, SqliteConnection};
use xorf::{BinaryFuse16, Filter};

use crate::events::{ROW, Random, TOPICS, key, repeat, values};
use crate::file::open;

/// New events of a batch.
pub const NEW: u64 = 7_000;
/// Repeated events of a batch.
pub const REPEATED: u64 = 3_000;
/// Rows over which a rate is measured.
pub const WINDOW: u64 = 490_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    One,
    Keys,
    Tables,
    Files,
}

/// Events in a layout.
pub struct Store {
    layout: Layout,
    folder: PathBuf,
    period: u64,
    connection: SqliteConnection,
    rows: u64,
    oldest: u64,
    filters: Vec<(u64, BinaryFuse16)>,
    building: Duration,
}

impl Store {
    /// Opens or creates the files.
    pub async fn open(layout: &str, folder: &str, period: &str) -> Self {
        let layout = match layout {
            "one" => Layout::One,
            "keys" => Layout::Keys,
            "tables" => Layout::Tables,
            "files" => Layout::Files,
            other => panic!("{other}"),
        };
        let folder = PathBuf::from(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut connection = open(&folder.join("store.db")).await;
        let counters = "CREATE TABLE IF NOT EXISTS counters (topic TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID; \
                        CREATE TABLE IF NOT EXISTS state (rows INTEGER, oldest INTEGER)";
        sqlx::raw_sql(counters).execute(&mut connection).await.unwrap();
        let state = sqlx::query_as::<_, (i64, i64)>("SELECT rows, oldest FROM state");
        let state = state.fetch_optional(&mut connection).await.unwrap();
        let (rows, oldest) = state.map_or((0, 0), |(rows, oldest)| (rows as u64, oldest as u64));
        let period = period.parse().unwrap();
        let mut store =
            Self { layout, folder, period, connection, rows, oldest, filters: Vec::new(), building: Duration::ZERO };
        if state.is_none() {
            store.run("INSERT INTO state VALUES (0, 0)").await;
            let index = if layout == Layout::One { "CREATE UNIQUE INDEX events_key ON events (key);" } else { "" };
            if matches!(layout, Layout::One | Layout::Keys) {
                store
                    .run(&format!("CREATE TABLE events ({ROW}); {index} CREATE INDEX events_topic ON events (topic)"))
                    .await;
            }
            store.create(0).await;
        }
        for number in store.oldest..store.open_period() {
            store.attach(number).await;
            store.build(number).await;
        }
        if state.is_some() {
            let number = store.open_period();
            store.attach(number).await;
        }
        store.building = Duration::ZERO;
        store
    }

    pub async fn close(self) {
        self.connection.close().await.unwrap();
    }

    async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.unwrap();
    }

    fn open_period(&self) -> u64 {
        if self.layout == Layout::One { 0 } else { self.rows / self.period }
    }

    /// Returns the table with the keys of a period, and that of its rows.
    fn names(&self, number: u64) -> (String, String) {
        match self.layout {
            Layout::One => ("events".into(), "events".into()),
            Layout::Keys => (format!("keys_{number}"), "events".into()),
            Layout::Tables => (format!("rows_{number}"), format!("rows_{number}")),
            Layout::Files => (format!("f{number}.rows"), format!("f{number}.rows")),
        }
    }

    async fn attach(&mut self, number: u64) {
        if self.layout == Layout::Files {
            let file = self.folder.join(format!("{number}.db"));
            open(&file).await.close().await.unwrap();
            let f = format!("f{number}");
            self.run(&format!("ATTACH '{}' AS {f}; PRAGMA {f}.cache_size = -24576", file.display())).await;
        }
    }

    async fn create(&mut self, number: u64) {
        self.attach(number).await;
        let (keys, _) = self.names(number);
        match self.layout {
            Layout::One => {}
            Layout::Keys => {
                self.run(&format!(
                    "CREATE TABLE {keys} (key BLOB PRIMARY KEY, payload_hash BLOB NOT NULL, seq INTEGER NOT NULL) \
                     STRICT, WITHOUT ROWID"
                ))
                .await;
            }
            Layout::Tables => {
                let indexes = format!(
                    "CREATE UNIQUE INDEX k_{number} ON {keys} (key); CREATE INDEX t_{number} ON {keys} (topic)"
                );
                self.run(&format!("CREATE TABLE {keys} ({ROW}); {indexes}")).await;
            }
            Layout::Files => {
                let f = format!("f{number}");
                let indexes = format!("CREATE UNIQUE INDEX {f}.k ON rows (key); CREATE INDEX {f}.t ON rows (topic)");
                self.run(&format!("CREATE TABLE {f}.rows ({ROW}); {indexes}")).await;
            }
        }
    }

    /// Builds the filter of a closed period.
    async fn build(&mut self, number: u64) {
        let began = Instant::now();
        let select = format!("SELECT key FROM {}", self.names(number).0);
        let keys =
            sqlx::query_scalar::<_, EventKey>(AssertSqlSafe(select)).fetch_all(&mut self.connection).await.unwrap();
        let mut keys: Vec<_> = keys.into_iter().map(|key| key.as_u128() as u64).collect();
        keys.sort_unstable();
        keys.dedup();
        self.filters.push((number, BinaryFuse16::try_from(&keys).unwrap()));
        self.building += began.elapsed();
    }

    /// Stores events up to a number of rows, and prints the rate of the last ones.
    pub async fn fill(&mut self, to: u64) {
        let mut random = Random(self.rows);
        let (mut window, mut longest) = (None, Duration::ZERO);
        while self.rows < to {
            if window.is_none() && self.rows + WINDOW >= to {
                (self.building, longest) = (Duration::ZERO, Duration::ZERO);
                window = Some((Instant::now(), self.rows));
            }
            let new = self.rows..self.rows + NEW;
            let repeated = (0..REPEATED).map(|_| random.below(self.rows.max(1)));
            let numbers: BTreeSet<u64> = repeated.filter(|n| *n < self.rows).chain(new).collect();
            let began = Instant::now();
            self.store(numbers).await;
            longest = longest.max(began.elapsed());
        }
        let (began, before) = window.unwrap();
        let (seconds, rows) = (began.elapsed().as_secs_f64(), (self.rows - before) as f64);
        let (millions, rate, building) = (self.rows as f64 / 1e6, rows / seconds / 1e3, self.building.as_secs_f64());
        println!(
            "{:?} of {}: {rate:.1} thousand new rows a second at {millions:.1} million, {building:.1} s of {seconds:.1} \
             for filters, longest batch {longest:.0?}, {:.0} MB",
            self.layout,
            self.period,
            self.bytes() as f64 / 1e6,
        );
    }

    fn bytes(&self) -> u64 {
        std::fs::read_dir(&self.folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    /// Stores a batch in one transaction.
    async fn store(&mut self, numbers: BTreeSet<u64>) {
        let open = self.open_period();
        let repeated = numbers.range(..self.rows).count();
        let mut rows: Vec<_> = numbers.into_iter().map(|number| (key(number), number)).collect();
        self.run("BEGIN IMMEDIATE").await;
        let mut stored = HashSet::new();
        let places: Vec<(u64, Vec<EventKey>)> = self
            .filters
            .iter()
            .map(|(number, filter)| {
                let maybe = rows.iter().map(|(key, _)| *key).filter(|key| filter.contains(&(key.as_u128() as u64)));
                (*number, maybe.collect())
            })
            .collect();
        for (number, keys) in places {
            stored.extend(self.find(number, &keys).await);
        }
        rows.retain(|(key, _)| !stored.contains(key));
        rows.sort_unstable();
        if self.layout == Layout::Keys {
            let found = self.insert_keys(open, &rows).await;
            rows.retain(|(key, _)| !found.contains(key));
            stored.extend(found);
        }
        rows.sort_unstable_by_key(|(_, number)| *number);
        for rows in rows.chunks(256) {
            if self.insert_rows(open, rows).await < rows.len() as u64 {
                let keys: Vec<_> = rows.iter().filter(|(_, n)| *n < self.rows).map(|(key, _)| *key).collect();
                stored.extend(self.find(open, &keys).await);
            }
        }
        assert_eq!(stored.len(), repeated, "each duplicate is found");
        for topic in TOPICS {
            self.run(&format!("INSERT INTO counters VALUES ('{topic}', 1) ON CONFLICT DO UPDATE SET n = n + 1")).await;
        }
        self.rows += NEW;
        let rows = self.rows;
        self.run(&format!("UPDATE state SET rows = {rows}; COMMIT")).await;
        if self.open_period() != open {
            self.build(open).await;
            self.create(open + 1).await;
        }
    }

    /// Returns which of these keys are stored in a period, and reads their hashes.
    async fn find(&mut self, number: u64, keys: &[EventKey]) -> Vec<EventKey> {
        let (table, _) = self.names(number);
        let mut found = Vec::new();
        for keys in keys.chunks(256) {
            let marks = repeat("?", keys.len());
            let text = format!("SELECT key, payload_hash FROM {table} WHERE key IN ({marks})");
            let select = sqlx::query_as::<_, (EventKey, Vec<u8>)>(AssertSqlSafe(text)).persistent(keys.len() == 256);
            let select = keys.iter().fold(select, |select, key| select.bind(*key));
            found.extend(select.fetch_all(&mut self.connection).await.unwrap().into_iter().map(|(key, _)| key));
        }
        found
    }

    /// Inserts the keys that are not there, and returns those that are.
    async fn insert_keys(&mut self, open: u64, rows: &[(EventKey, u64)]) -> Vec<EventKey> {
        let (table, _) = self.names(open);
        let mut stored = Vec::new();
        for rows in rows.chunks(256) {
            let mut values = SqliteArguments::default();
            for (key, number) in rows {
                values.add(*key).unwrap();
                values.add(hash128(&number.to_be_bytes()).to_vec()).unwrap();
                values.add(*number as i64 + 1).unwrap();
            }
            let marks = repeat("(?,?,?)", rows.len());
            let text = format!("INSERT OR FAIL INTO {table} VALUES {marks} ON CONFLICT (key) DO NOTHING");
            let insert = sqlx::query_with(AssertSqlSafe(text), values).persistent(rows.len() == 256);
            let inserted = insert.execute(&mut self.connection).await.unwrap().rows_affected();
            if inserted < rows.len() as u64 {
                let keys: Vec<_> = rows.iter().filter(|(_, n)| *n < self.rows).map(|(key, _)| *key).collect();
                stored.extend(self.find(open, &keys).await);
            }
        }
        stored
    }

    async fn insert_rows(&mut self, open: u64, rows: &[(EventKey, u64)]) -> u64 {
        let (_, table) = self.names(open);
        let conflict = if self.layout == Layout::Keys { "" } else { "ON CONFLICT (key) DO NOTHING" };
        let marks = repeat("(?,?,?,?,?,?,?,?,?,?)", rows.len());
        let text = format!("INSERT OR FAIL INTO {table} VALUES {marks} {conflict}");
        let insert = sqlx::query_with(AssertSqlSafe(text), values(rows)).persistent(rows.len() == 256);
        insert.execute(&mut self.connection).await.unwrap().rows_affected()
    }

    /// Removes the oldest rows as the retention does, and says how long the writer had to wait.
    pub async fn remove(&mut self, rows: u64) {
        let (began, before) = (Instant::now(), self.bytes());
        let mut longest = Duration::ZERO;
        let first = self.oldest * self.period;
        let last = first + rows;
        if matches!(self.layout, Layout::One | Layout::Keys) {
            for end in (first..last).step_by(5_000).map(|from| (from + 5_000).min(last)) {
                let began = Instant::now();
                self.run(&format!(
                    "BEGIN IMMEDIATE; INSERT INTO counters SELECT 'removed-' || topic, count(*) FROM events NOT INDEXED \
                     WHERE seq <= {end} GROUP BY topic ON CONFLICT DO UPDATE SET n = n + excluded.n; \
                     DELETE FROM events WHERE seq <= {end}; COMMIT"
                ))
                .await;
                longest = longest.max(began.elapsed());
            }
        }
        while self.layout != Layout::One && (self.oldest + 1) * self.period <= last {
            let one = Instant::now();
            let (table, _) = self.names(self.oldest);
            match self.layout {
                Layout::Files => {
                    let file = self.folder.join(format!("{}.db", self.oldest));
                    self.run(&format!("DETACH f{}", self.oldest)).await;
                    std::fs::remove_file(file).unwrap();
                }
                _ => self.run(&format!("DROP TABLE {table}")).await,
            }
            longest = longest.max(one.elapsed());
            println!("{table}: {} ms", one.elapsed().as_millis());
            self.oldest += 1;
        }
        let oldest = self.oldest;
        self.run(&format!("UPDATE state SET oldest = {oldest}")).await;
        println!(
            "{:?}: {rows} rows removed in {} ms, longest wait {} ms, {:.0} MB of files before and {:.0} MB after",
            self.layout,
            began.elapsed().as_millis(),
            longest.as_millis(),
            before as f64 / 1e6,
            self.bytes() as f64 / 1e6
        );
    }
}
