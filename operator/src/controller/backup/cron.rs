//! The schedule of a CronJob, as Kubernetes reads it: whether it is valid, and when it comes next.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The most days that are looked at: a 29th of February can be eight years away.
const MAX_DAYS: usize = 366 * 9;

/// A schedule of five fields. Each is a set of numbers, a bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the days of the month and of the week are both restricted: then either is enough.
    either_day: bool,
}

impl Schedule {
    /// Parses a schedule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err("must have five fields: minute, hour, day of the month, month and day of the week".to_owned());
        };
        let weekday_bits = field("day of the week", weekdays, (0, 7), &DAYS)?;
        Ok(Self {
            minutes: field("minute", minutes, (0, 59), &[])?,
            hours: field("hour", hours, (0, 23), &[])?,
            days: field("day of the month", days, (1, 31), &[])?,
            months: field("month", months, (1, 12), &MONTHS)?,
            // Sunday is 0 and 7.
            weekdays: (weekday_bits | weekday_bits >> 7) & 0x7f,
            either_day: !days.starts_with(['*', '?']) && !weekdays.starts_with(['*', '?']),
        })
    }

    /// Returns the first time after this one, in UTC; `None` if there is none, as on the 30th of February.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let start = time.to_zoned(TimeZone::UTC).datetime();
        let mut day = start.date();
        for _ in 0..MAX_DAYS {
            if self.has_day(day.day(), day.month(), day.weekday().to_sunday_zero_offset()) {
                let mut times =
                    (0..24 * 60).filter(|minute| has(self.hours, minute / 60) && has(self.minutes, minute % 60));
                let at = |minute: i32| -> Option<DateTime> {
                    Some(day.at(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0))
                };
                if let Some(found) = times.find_map(|minute| at(minute).filter(|found| *found > start)) {
                    return found.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
                }
            }
            day = day.checked_add(1.day()).ok()?;
        }
        None
    }

    fn has_day(&self, day: i8, month: i8, weekday: i8) -> bool {
        let (day, weekday) = (has(self.days, day.into()), has(self.weekdays, weekday.into()));
        has(self.months, month.into()) && if self.either_day { day || weekday } else { day && weekday }
    }
}

fn has(bits: u64, number: i32) -> bool {
    bits >> number & 1 == 1
}

/// Parses a list of numbers, ranges and steps.
fn field(name: &str, text: &str, (min, max): (u8, u8), names: &[&str]) -> Result<u64, String> {
    let wrong = |part: &str| format!("{part:?} is not valid for the {name}, which is from {min} to {max}");
    let number = |part: &str| {
        let named = names.iter().position(|name| part.eq_ignore_ascii_case(name));
        let named = named.and_then(|index| u8::try_from(index).ok()).map(|index| index + min);
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        named.or_else(|| part.parse().ok().filter(|_| digits)).filter(|number| (min..=max).contains(number))
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u8>().ok().filter(|step| *step > 0).ok_or_else(|| wrong(part))?;
                (range, Some(step))
            }
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (min, max),
            Some((first, last)) => {
                (number(first).ok_or_else(|| wrong(part))?, number(last).ok_or_else(|| wrong(part))?)
            }
            None => {
                let first = number(range).ok_or_else(|| wrong(part))?;
                // 5/10 begins at 5 and has no end.
                (first, if step.is_some() { max } else { first })
            }
        };
        if first > last {
            return Err(wrong(part));
        }
        (first..=last).step_by(step.unwrap_or(1).into()).for_each(|number| bits |= 1 << number);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(schedule: &str, time: &str) -> String {
        let found = Schedule::parse(schedule).unwrap().after(time.parse().unwrap());
        found.map_or_else(|| "never".to_owned(), |time| time.to_string())
    }

    #[test]
    fn the_next_time_is_that_of_kubernetes() {
        for (schedule, time, next) in [
            ("0 3 * * *", "2026-01-02T03:00:00Z", "2026-01-03T03:00:00Z"),
            ("0 3 * * *", "2026-01-02T02:59:59Z", "2026-01-02T03:00:00Z"),
            ("*/15 * * * *", "2026-01-02T03:01:00Z", "2026-01-02T03:15:00Z"),
            ("5/20 4 * * *", "2026-01-02T04:25:00Z", "2026-01-02T04:45:00Z"),
            ("0 0 1 jan,JUL *", "2026-01-02T00:00:00Z", "2026-07-01T00:00:00Z"),
            ("30 1 * * 7", "2026-11-27T00:00:00Z", "2026-11-29T01:30:00Z"),
            ("30 1 * * mon-fri", "2026-11-28T00:00:00Z", "2026-11-30T01:30:00Z"),
            // Either of both days.
            ("0 0 13 * fri", "2026-11-28T00:00:00Z", "2026-12-04T00:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", "never"),
        ] {
            assert_eq!(after(schedule, time), next, "{schedule} after {time}");
        }
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        for (schedule, names) in [
            ("* * * *", "five fields"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of the month"),
            ("* * * foo *", "month"),
            ("* * * * 8", "day of the week"),
            ("*/0 * * * *", "minute"),
            ("5-1 * * * *", "minute"),
            ("1, * * * *", "minute"),
            ("+1 * * * *", "minute"),
            ("@daily", "five fields"),
        ] {
            let error = Schedule::parse(schedule).unwrap_err();
            assert!(error.contains(names), "{schedule}: {error}");
        }
    }
}
