//! Times in UTC, to the microsecond, which is the precision of PostgreSQL's `timestamptz`.

mod usual;

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::ambient;

/// A time: microseconds since 1970-01-01T00:00:00Z. Finer digits are truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 0001-01-01T00:00:00Z, the earliest time accepted.
const MIN_MICROS: i64 = -62_135_596_800_000_000;
/// 9999-12-30T22:00:00.999999Z, the latest time that is within year 9999 at every offset.
const MAX_MICROS: i64 = 253_402_207_200_999_999;

impl Timestamp {
    /// The beginning of the year 1970.
    pub const UNIX_EPOCH: Self = Self(0);

    /// Returns the current time by this machine's clock.
    pub fn now() -> Self {
        Self(ambient::now_micros())
    }

    /// Creates a timestamp from microseconds since 1970; `None` outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (MIN_MICROS..=MAX_MICROS).contains(&micros).then_some(Self(micros))
    }

    /// Returns microseconds since 1970.
    pub fn as_micros(self) -> i64 {
        self.0
    }
}

/// RFC 3339 in UTC with `Z`, and as many fractional digits as the time has.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

/// The text is not a timestamp. The error's text is sent to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2026-01-31T12:00:00Z")]
pub struct InvalidTimestamp;

/// Parses RFC 3339 or ISO 8601 with any offset; without an offset the time is in UTC.
impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        match usual(text) {
            Some(time) => Ok(time),
            None => Self::any_form(text),
        }
    }
}

impl Timestamp {
    fn any_form(text: &str) -> Result<Self, InvalidTimestamp> {
        // jiff also reads RFC 9557 annotations (`[Europe/Paris]`), which RFC 3339 does not have.
        if text.contains('[') || !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(InvalidTimestamp);
        }
        let time = match text.parse::<jiff::Timestamp>() {
            Ok(time) => time,
            // `DateTime` ignores an offset, so it is used only when there is none.
            Err(_) if has_no_offset(text) => text
                .parse::<DateTime>()
                .ok()
                .and_then(|civil| Offset::UTC.to_timestamp(civil).ok())
                .ok_or(InvalidTimestamp)?,
            Err(_) => return Err(InvalidTimestamp),
        };
        let micros = time.as_nanosecond().div_euclid(1_000);
        i64::try_from(micros).ok().and_then(Self::from_micros).ok_or(InvalidTimestamp)
    }
}

/// Parses the usual form; `None` for every other one.
fn usual(text: &str) -> Option<Timestamp> {
    usual::parse(text.as_bytes()).and_then(Timestamp::from_micros)
}

fn has_no_offset(text: &str) -> bool {
    let time = text.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    !time.contains(['Z', 'z', '+', '-'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Option<String> {
        text.parse::<Timestamp>().ok().map(|t| t.to_string())
    }

    #[test]
    fn any_offset_is_stored_in_utc() {
        assert_eq!(parsed("2026-01-31T12:00:00+02:00").as_deref(), Some("2026-01-31T10:00:00Z"));
        assert_eq!(parsed("2026-01-31t12:00:00.25z").as_deref(), Some("2026-01-31T12:00:00.25Z"));
    }

    #[test]
    fn a_time_without_a_zone_is_utc() {
        assert_eq!(parsed("2026-01-31T12:00:00").as_deref(), Some("2026-01-31T12:00:00Z"));
        assert_eq!(parsed("2026-01-31").as_deref(), Some("2026-01-31T00:00:00Z"));
    }

    #[test]
    fn digits_below_the_microsecond_are_cut_off_also_before_1970() {
        assert_eq!(parsed("2026-01-31T12:00:00.1234569Z").as_deref(), Some("2026-01-31T12:00:00.123456Z"));
        assert_eq!(parsed("1969-12-31T23:59:59.9999999Z").as_deref(), Some("1969-12-31T23:59:59.999999Z"));
    }

    #[test]
    fn a_text_that_is_not_a_time_is_refused() {
        for text in [
            "",
            " ",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-31T25:00:00Z",
            "2026-01-31T12:00:00+99:00",
            "2026-01-31T12:00:00Z[UTC]",
            "-0001-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "+012026-01-01T00:00:00Z",
            "1700000000",
            "2026-01-31T12:00:00Zjunk",
            "2026-01-31T12:00:00-",
        ] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    /// The quick parser accepts only texts that jiff accepts, and returns the same time.
    fn agree(text: &str) {
        if let Some(time) = usual(text) {
            assert_eq!(Timestamp::any_form(text), Ok(time), "{text}");
        }
    }

    #[test]
    fn the_usual_form_is_parsed_without_jiff() {
        for text in ["2026-01-31T12:00:00Z", "2024-02-29T23:59:59.999999999+14:00", "0001-01-01T00:00:00.5-05:30"] {
            assert!(usual(text).is_some(), "{text}");
            agree(text);
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_the_day_that_jiff_says() {
        for year in (1..=401).chain(1600..=2000).chain([2100, 9996, 9999]) {
            for (month, day) in (1..=12).flat_map(|month| [1, 2, 28, 29, 30, 31].map(|day| (month, day))) {
                agree(&format!("{year:04}-{month:02}-{day:02}T00:00:00Z"));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn usual_times_are_judged_alike(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|[+-][0-9]{2}:[0-9]{2}|[+-]00:00|)",
        ) {
            agree(&text);
        }

        #[test]
        fn almost_usual_times_are_judged_alike(at in 0..32_usize, with in prop::sample::select(&b"0123456789-+:.,TtZz [a"[..])) {
            for text in ["2026-01-31T12:00:00.123456Z", "2024-02-29T23:59:59+01:00"] {
                let mut bytes = text.as_bytes().to_vec();
                let length = bytes.len();
                bytes[at % length] = with;
                agree(&String::from_utf8_lossy(&bytes));
                bytes.truncate(at % length);
                agree(&String::from_utf8_lossy(&bytes));
            }
        }
    }
}
