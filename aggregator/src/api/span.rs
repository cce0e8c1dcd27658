//! The windows that a request asks for: from a time to another one, in a time zone.

use jiff::tz::TimeZone;
use sluice_event::Timestamp;
use sluice_service::problem::Problem;

use super::problems::invalid_query;
use super::query::Parameters;
use super::windows::{Length, MAX_WINDOWS, NoWindows, boundaries};

/// The longest that an answer may span, in days: three years.
const MAX_DAYS: i64 = 1_100;
/// Also what an answer spans without the parameter `from`.
const MICROS_OF_A_DAY: i64 = 24 * 3_600 * 1_000_000;

/// The parameters of the windows, as they were given.
#[derive(Debug, Clone, Default)]
pub(super) struct SpanParameters {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub window: Option<Length>,
    pub tz: Option<String>,
}

/// Windows one after another.
pub(super) struct Span {
    /// How long they are.
    pub length: Length,
    /// The name of the time zone.
    pub tz: String,
    zone: TimeZone,
    /// When they begin, and the end of the last one: two times at least.
    boundaries: Vec<jiff::Timestamp>,
}

impl SpanParameters {
    /// Removes the parameters from those of a request.
    pub fn read(parameters: &mut Parameters) -> Result<Self, Problem> {
        Ok(Self {
            to: parameters.value("to")?,
            from: parameters.value("from")?,
            window: parameters.value("window")?,
            tz: parameters.text("tz"),
        })
    }

    /// Returns the windows: hours of the last day in UTC, where nothing else was given.
    pub fn span(self) -> Result<Span, Problem> {
        let to = self.to.unwrap_or_else(Timestamp::now);
        let a_day_before = || Timestamp::from_micros(to.as_micros() - MICROS_OF_A_DAY).unwrap_or(to);
        let from = self.from.unwrap_or_else(a_day_before);
        let length = self.window.unwrap_or(Length::Hour);
        let tz = self.tz.unwrap_or_else(|| "UTC".to_owned());
        let zone = TimeZone::get(&tz).map_err(|_| invalid_query("tz", "is no time zone of the IANA database"))?;
        let boundaries = between(length, &zone, from, to)?;
        Ok(Span { length, tz, zone, boundaries })
    }
}

impl Span {
    /// Returns the minutes since 1970 with which the windows begin, and the one with which the last ends. Where a window begins
    /// within a minute, as it did in some time zones long ago, it has the whole minute.
    pub fn minutes(&self) -> Vec<i64> {
        self.boundaries.iter().map(|time| time.as_second().div_euclid(60)).collect()
    }

    /// Returns whether each window begins with a minute whose number is a multiple of this.
    pub fn begins_at_multiples_of(&self, minutes: i64) -> bool {
        self.boundaries.iter().all(|time| time.as_second().rem_euclid(minutes * 60) == 0)
    }

    /// Returns the begin and the end of each window as text, with the offset of the zone.
    pub fn ends(&self) -> impl Iterator<Item = (String, String)> {
        self.boundaries
            .iter()
            .zip(self.boundaries.iter().skip(1))
            .map(|(start, end)| (self.local(start), self.local(end)))
    }

    fn local(&self, time: &jiff::Timestamp) -> String {
        time.to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

/// Returns the boundaries of the windows, or an error that names the parameter to change.
fn between(length: Length, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Result<Vec<jiff::Timestamp>, Problem> {
    if from >= to {
        return Err(invalid_query("to", "must be after `from`"));
    }
    if to.as_micros() - from.as_micros() > MAX_DAYS * MICROS_OF_A_DAY {
        return Err(invalid_query("from", &format!("must be at most {MAX_DAYS} days before `to`")));
    }
    let too_far = |parameter| move |_| invalid_query(parameter, "is too far from the present");
    let first = jiff::Timestamp::from_microsecond(from.as_micros()).map_err(too_far("from"))?;
    let last = jiff::Timestamp::from_microsecond(to.as_micros()).map_err(too_far("to"))?;
    boundaries(length, zone, first, last).map_err(|none| match none {
        NoWindows::TooMany => {
            invalid_query("window", &format!("is too short: there would be more than {MAX_WINDOWS} windows"))
        }
        NoWindows::OutOfRange => invalid_query("to", "is too far from the present"),
    })
}
