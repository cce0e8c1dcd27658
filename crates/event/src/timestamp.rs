//! Moments in UTC, to the microsecond, as PostgreSQL keeps them.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::Offset;

/// A moment: microseconds since 1970-01-01T00:00:00Z. Finer digits are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 0001-01-01T00:00:00Z, the earliest moment accepted.
const MIN_MICROS: i64 = -62_135_596_800_000_000;
/// 9999-12-30T22:00:00.999999Z, the latest that every reader of RFC 3339 can print.
const MAX_MICROS: i64 = 253_402_207_200_999_999;

impl Timestamp {
    /// The present moment by this machine's clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// From microseconds since the Unix epoch; `None` outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (MIN_MICROS..=MAX_MICROS).contains(&micros).then_some(Self(micros))
    }

    /// Microseconds since the Unix epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }
}

/// RFC 3339 in UTC with `Z`, and as many fractional digits as the moment has.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => moment.fmt(f),
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

/// Why a text is no timestamp; the text of the error is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2026-01-31T12:00:00Z")]
pub struct InvalidTimestamp;

/// RFC 3339 or ISO 8601 with any offset; without one it is taken as UTC.
impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        // jiff also reads RFC 9557 annotations (`[Europe/Paris]`), which RFC 3339 does not have.
        if text.contains('[') || !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(InvalidTimestamp);
        }
        let moment = match text.parse::<jiff::Timestamp>() {
            Ok(moment) => moment,
            // A moment without a zone. `DateTime` would ignore an offset, so only when there is none.
            Err(_) if has_no_offset(text) => text
                .parse::<DateTime>()
                .ok()
                .and_then(|civil| Offset::UTC.to_timestamp(civil).ok())
                .ok_or(InvalidTimestamp)?,
            Err(_) => return Err(InvalidTimestamp),
        };
        let micros = moment.as_nanosecond().div_euclid(1_000);
        i64::try_from(micros).ok().and_then(Self::from_micros).ok_or(InvalidTimestamp)
    }
}

fn has_no_offset(text: &str) -> bool {
    let time = text.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    !time.contains(['Z', 'z', '+', '-'])
}

#[cfg(test)]
mod tests {
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
    fn what_is_no_time_is_refused() {
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
}
