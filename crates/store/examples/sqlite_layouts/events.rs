//! Events like those of the benchmark.

use sluice_event::EventKey;
use sluice_event::key::hash128;
use sqlx::Arguments;
use sqlx::sqlite::SqliteArguments;

/// The columns of an event.
pub const ROW: &str = "seq INTEGER PRIMARY KEY, key BLOB NOT NULL, ts INTEGER NOT NULL, received_at INTEGER NOT NULL, \
                   payload_hash BLOB NOT NULL, request_id BLOB NOT NULL, topic TEXT NOT NULL, event_id TEXT NOT NULL, \
                   source TEXT, payload TEXT NOT NULL";

/// The topics that events are distributed over.
pub const TOPICS: [&str; 5] = ["orders", "payments", "shipments", "inventory", "telemetry"];

/// SplitMix64, a small generator.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Returns `item,item,…`.
pub fn repeat(item: &str, times: usize) -> String {
    vec![item; times].join(",")
}

/// Returns the key of an event.
pub fn key(number: u64) -> EventKey {
    EventKey::from_bytes(hash128(&number.to_le_bytes()))
}

/// Returns the values of these rows.
pub fn values(rows: &[(EventKey, u64)]) -> SqliteArguments {
    let mut values = SqliteArguments::default();
    values.reserve(rows.len() * 10, 0);
    for (key, number) in rows {
        let mut random = Random(*number);
        values.add(*number as i64 + 1).unwrap();
        values.add(*key).unwrap();
        values.add(1_700_000_000_000_000 + *number as i64).unwrap();
        values.add(1_700_000_000_000_000 + *number as i64).unwrap();
        values.add(hash128(&number.to_be_bytes()).to_vec()).unwrap();
        values.add(hash128(&(number / 100).to_be_bytes()).to_vec()).unwrap();
        values.add(TOPICS[random.below(5) as usize]).unwrap();
        values.add(format!("evt-{number:010}")).unwrap();
        values.add(format!("service-{}", random.below(20))).unwrap();
        values.add(payload(&mut random)).unwrap();
    }
    values
}

/// Returns a payload like those of the benchmark.
pub fn payload(random: &mut Random) -> String {
    let mut item = |name: char| {
        let (sku, quantity, price) = (random.below(100_000), random.below(9) + 1, random.below(500));
        format!(r#"{{"sku":"{name}-{sku:05}","quantity":{quantity},"price":{price}.{:02}}}"#, random.below(100))
    };
    let items = [item('A'), item('B')].join(",");
    let (customer, region, total) = (random.below(1_000_000), random.below(4), random.below(9_000));
    let trace = format!("{:016x}{:016x}", random.next(), random.next());
    format!(r#"{{"customer":{{"id":{customer},"region":"eu-{region}","tier":"gold"}},"items":[{items}],"#)
        + &format!(r#""total":{total}.50,"currency":"EUR","paid":true,"trace":"{trace}"}}"#)
}
