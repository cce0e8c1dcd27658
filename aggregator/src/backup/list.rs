//! `backup list`: the backups of a place as a table or as JSON.

use std::fmt::Write;

use jiff::Timestamp;

use super::manifest::Manifest;
use super::place::Place;
use super::settings::{Format, ListSettings};

/// Writes the list to standard output.
///
/// # Errors
/// If the place cannot be read.
pub(super) async fn list(settings: &ListSettings) -> anyhow::Result<()> {
    let found = Place::open(&settings.place.url)?.list().await?;
    for (name, reason) in &found.unreadable {
        tracing::warn!(name, reason, "the manifest of a backup cannot be read");
    }
    let text = match settings.format {
        Format::Table => table(&found.backups, Timestamp::now()),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&found.backups)?),
    };
    // A reader that has gone away, such as `head`, is no error.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    Ok(())
}

fn table(backups: &[Manifest], now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |cells: [String; 6]| {
        let [name, age, size, events, postgres, schema] = cells;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:20} {age:>8} {size:>12} {events:>14} {postgres:>10}  {schema}");
    };
    line(["name", "age", "size", "events", "PostgreSQL", "schema"].map(str::to_owned));
    for backup in backups {
        line([
            backup.name.clone(),
            age(now.duration_since(backup.began).as_secs()),
            format!("{:.1} MiB", backup.size as f64 / f64::from(1 << 20)),
            backup.events.to_string(),
            backup.postgres.to_string(),
            backup.schema.escape_debug().to_string(),
        ]);
    }
    text
}

fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_the_unit_that_fits() {
        assert_eq!([age(5), age(180), age(7_300), age(259_200)], ["5 s", "3 min", "2 h", "3 d"]);
    }
}
