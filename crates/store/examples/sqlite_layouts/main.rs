//! Measures ways to lay out events in SQLite, with the settings, the rows and the batches of the store:
//!
//! - `one`: one table with a unique index of the keys;
//! - `keys`: one table without that index, and the keys of each period in a table of their own;
//! - `tables`: a table of rows with their keys for each period;
//! - `files`: the same, each in an attached file.
//!
//! `cargo run --release -p sluice-store --example sqlite_layouts -- fill LAYOUT FOLDER PERIOD ROWS...` stores events up
//! to these numbers of rows, beside 30% duplicates of any of them, and prints the rate of the last half a million
//! before each number. `remove LAYOUT FOLDER PERIOD ROWS` then removes so many of the oldest rows, and `pages FOLDER
//! TABLES...` lists events that are in so many tables. `AUTO_VACUUM` and `SECURE_DELETE` set these pragmas. `store
//! FOLDER SECONDS ROWS...` does what `fill` does with the store itself, which retains events for so many seconds; with
//! 0 for ever.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a program for one measurement")]

mod events;
mod file;
mod pages;
mod real;
mod store;

use std::path::Path;
use std::time::Duration;

use pages::pages;
use store::Store;

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = |text: &String| text.parse::<u64>().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", layout, folder, period, ..] => {
            let mut store = Store::open(layout, folder, period).await;
            for rows in arguments[4..].iter().map(number) {
                store.fill(rows).await;
            }
            store.close().await;
        }
        ["remove", layout, folder, period, rows] => {
            let mut store = Store::open(layout, folder, period).await;
            store.remove(rows.parse().unwrap()).await;
            store.close().await;
        }
        ["store", folder, seconds, ..] => {
            let retained = Some(Duration::from_secs(seconds.parse().unwrap())).filter(|retained| !retained.is_zero());
            real::fill(Path::new(folder), retained, arguments[3..].iter().map(number)).await;
        }
        ["pages", folder, ..] => {
            for tables in arguments[2..].iter().map(number) {
                pages(Path::new(folder), tables).await;
            }
        }
        _ => panic!("fill, remove, store or pages"),
    }
}
