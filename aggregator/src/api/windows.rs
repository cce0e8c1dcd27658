//! Windows of time: minutes, hours, days, weeks and months in a time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use utoipa::ToSchema;

/// The largest number of windows in one answer.
pub(super) const MAX_WINDOWS: usize = 10_000;
/// Seconds of a quarter of an hour: what all offsets of present time zones are multiples of.
const QUARTER: i64 = 900;
/// More quarters than an hour has when the clock is set back by an hour.
const MAX_QUARTERS: usize = 12;

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Length {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

impl Length {
    pub const ALL: [(&str, Self); 5] = [
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];

    /// Returns its name in queries and answers.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, length)| *length == self).map_or("", |(name, _)| name)
    }
}

impl std::str::FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, length)| *length).ok_or_else(|| "must be minute, hour, day, week or month".to_owned())
    }
}

/// Why there are no windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoWindows {
    /// There would be more than [`MAX_WINDOWS`].
    TooMany,
    /// A time is too far from the present.
    OutOfRange,
}

/// Returns the times at which the windows begin that have a time from `from` on and before `to`, and the end of the last one.
/// The first begins at or before `from`, and the last ends at or after `to`.
pub(super) fn boundaries(
    length: Length,
    zone: &TimeZone,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Timestamp>, NoWindows> {
    let mut begin = begin(length, zone, from).ok_or(NoWindows::OutOfRange)?;
    let mut all = vec![begin];
    while begin < to {
        if all.len() > MAX_WINDOWS {
            return Err(NoWindows::TooMany);
        }
        begin = next(length, zone, begin).filter(|next| *next > begin).ok_or(NoWindows::OutOfRange)?;
        all.push(begin);
    }
    Ok(all)
}

/// Returns when the window begins that has this time.
fn begin(length: Length, zone: &TimeZone, time: Timestamp) -> Option<Timestamp> {
    let date = || time.to_zoned(zone.clone()).date();
    match length {
        Length::Minute => floor(time, 60),
        Length::Hour => find_hour(zone, floor(time, QUARTER)?, -QUARTER),
        Length::Day => midnight(zone, date()),
        Length::Week => {
            let date = date();
            midnight(zone, date.checked_sub(SignedDuration::from_hours(24 * monday_based(date))).ok()?)
        }
        Length::Month => midnight(zone, date().first_of_month()),
    }
}

/// Returns when the window after the one that begins at this time does.
fn next(length: Length, zone: &TimeZone, begin_of_this: Timestamp) -> Option<Timestamp> {
    let date = || begin_of_this.to_zoned(zone.clone()).date();
    let days_later = |days: i64| date().checked_add(SignedDuration::from_hours(24 * days)).ok();
    match length {
        Length::Minute => begin_of_this.checked_add(SignedDuration::from_mins(1)).ok(),
        Length::Hour => find_hour(zone, later(begin_of_this, QUARTER)?, QUARTER),
        Length::Day => midnight(zone, days_later(1)?),
        Length::Week => midnight(zone, days_later(7)?),
        Length::Month => midnight(zone, date().last_of_month().tomorrow().ok()?),
    }
}

/// Returns the number of days since Monday.
fn monday_based(date: Date) -> i64 {
    i64::from(date.weekday().to_monday_zero_offset())
}

/// Returns the first time of a date: midnight, unless the clock is set forward then.
fn midnight(zone: &TimeZone, date: Date) -> Option<Timestamp> {
    let zoned = date.to_zoned(zone.clone()).ok()?;
    zoned.start_of_day().ok().map(|begin| begin.timestamp())
}

/// Returns the first time, from this one on and by steps of so many seconds, at which an hour begins: the clock shows a full
/// hour, or another hour than a quarter before. Where the clock is set by half an hour, a window has half an hour more or less.
fn find_hour(zone: &TimeZone, from: Timestamp, step: i64) -> Option<Timestamp> {
    let mut time = from;
    for _ in 0..MAX_QUARTERS {
        let now = zone.to_datetime(time);
        if now.minute() == 0 || now.hour() != zone.to_datetime(later(time, -QUARTER)?).hour() {
            return Some(time);
        }
        time = later(time, step)?;
    }
    None
}

/// Returns the time so many seconds later.
fn later(time: Timestamp, seconds: i64) -> Option<Timestamp> {
    time.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Returns the last time at or before this one that is a multiple of so many seconds from 1970.
fn floor(time: Timestamp, seconds: i64) -> Option<Timestamp> {
    let whole = time.as_microsecond().div_euclid(1_000_000 * seconds);
    Timestamp::from_second(whole * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(length: Length, zone: &str, from: &str, to: &str) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let all = boundaries(length, &zone, from.parse().unwrap(), to.parse().unwrap()).unwrap();
        all.into_iter().map(|begin| begin.to_zoned(zone.clone()).strftime("%m-%dT%H:%M%:z").to_string()).collect()
    }

    #[test]
    fn days_begin_at_midnight_of_the_zone_also_when_the_clock_is_set() {
        assert_eq!(
            windows(Length::Day, "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z"),
            ["03-28T00:00+01:00", "03-29T00:00+01:00", "03-30T00:00+02:00", "03-31T00:00+02:00"]
        );
        // In Cairo the clock is set forward at midnight.
        assert_eq!(
            windows(Length::Day, "Africa/Cairo", "2026-04-23T12:00:00Z", "2026-04-24T12:00:00Z"),
            ["04-23T00:00+02:00", "04-24T01:00+03:00", "04-25T00:00+03:00"]
        );
        // The day on which the clock is set back has 25 hours, and is one window.
        assert_eq!(
            windows(Length::Day, "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T00:00:00Z"),
            ["10-24T00:00+02:00", "10-25T00:00+02:00", "10-26T00:00+01:00", "10-27T00:00+01:00"]
        );
    }

    #[test]
    fn hours_begin_at_the_full_hour_of_the_zone_also_when_the_clock_is_set() {
        assert_eq!(
            windows(Length::Hour, "Asia/Kathmandu", "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z"),
            ["01-01T05:00+05:45", "01-01T06:00+05:45", "01-01T07:00+05:45"]
        );
        assert_eq!(
            windows(Length::Hour, "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"),
            ["10-25T02:00+02:00", "10-25T02:00+01:00", "10-25T03:00+01:00"]
        );
        assert_eq!(
            windows(Length::Hour, "Australia/Lord_Howe", "2026-04-04T14:00:00Z", "2026-04-04T16:00:00Z"),
            ["04-05T01:00+11:00", "04-05T02:00+10:30", "04-05T03:00+10:30"]
        );
        assert_eq!(
            windows(Length::Hour, "Australia/Lord_Howe", "2026-10-03T15:00:00Z", "2026-10-03T16:00:00Z"),
            ["10-04T01:00+10:30", "10-04T02:30+11:00", "10-04T03:00+11:00"]
        );
        // Long ago, when the clock of Berlin was ahead by 53 minutes and 28 seconds.
        assert_eq!(windows(Length::Hour, "Europe/Berlin", "1800-01-01T00:00:00Z", "1800-01-01T02:00:00Z").len(), 4);
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_their_first_day() {
        assert_eq!(
            windows(Length::Week, "UTC", "2026-11-29T00:00:00Z", "2026-11-30T00:00:01Z"),
            ["11-23T00:00+00:00", "11-30T00:00+00:00", "12-07T00:00+00:00"]
        );
        assert_eq!(
            windows(Length::Month, "America/New_York", "2026-02-01T00:00:00Z", "2026-03-02T00:00:00Z"),
            ["01-01T00:00-05:00", "02-01T00:00-05:00", "03-01T00:00-05:00", "04-01T00:00-04:00"]
        );
    }

    #[test]
    fn minutes_begin_at_the_full_minute_and_an_end_at_a_boundary_begins_no_window() {
        assert_eq!(
            windows(Length::Minute, "UTC", "2026-01-01T00:00:59.9Z", "2026-01-01T00:02:00Z"),
            ["01-01T00:00+00:00", "01-01T00:01+00:00", "01-01T00:02+00:00"]
        );
    }

    #[test]
    fn too_many_windows_and_times_without_windows_are_refused() {
        let of = |length, from: &str, to: &str| {
            boundaries(length, &TimeZone::UTC, from.parse().unwrap(), to.parse().unwrap()).map(|all| all.len())
        };
        assert_eq!(of(Length::Minute, "2026-01-01T00:00:00Z", "2026-01-07T22:40:00Z"), Ok(MAX_WINDOWS + 1));
        assert_eq!(of(Length::Minute, "2026-01-01T00:00:00Z", "2026-01-07T22:40:01Z"), Err(NoWindows::TooMany));
        assert_eq!(of(Length::Month, "9999-11-01T00:00:00Z", "9999-12-30T00:00:00Z"), Err(NoWindows::OutOfRange));
    }
}
