//! Parsers of option values with units, for clap's `value_parser`.

use std::time::Duration;

/// Parses a duration: a whole number with `ms`, `s`, `m`, `h` or `d`, such as `500ms`, `30s`, `24h`.
///
/// # Errors
/// A text that clap shows after the option's name.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        _ => return Err("use a whole number with a unit: ms, s, m, h or d, such as 30s".into()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "is too long".into())
}

/// Parses a size in bytes: a whole number, alone or with `KB`, `MB`, `GB` (powers of 1,000) or `KiB`,
/// `MiB`, `GiB` (powers of 1,024), such as `64MiB`.
///
/// # Errors
/// A text that clap shows after the option's name.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("use a whole number with a unit: B, KB, MB, GB, KiB, MiB or GiB, such as 64MiB".into()),
    };
    number.checked_mul(factor).ok_or_else(|| "is too large".into())
}

/// Returns a parser of durations from `min` to `max`, both in the form that [`duration`] parses.
pub fn duration_within(
    min: &'static str,
    max: &'static str,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| within(text, min, max, duration)
}

/// Returns a parser of sizes from `min` to `max`, both in the form that [`bytes`] parses.
pub fn bytes_within(
    min: &'static str,
    max: &'static str,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| within(text, min, max, bytes)
}

fn within<T: PartialOrd>(
    text: &str,
    min: &str,
    max: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, String> {
    let value = parse(text)?;
    if value < parse(min)? {
        Err(format!("must be at least {min}"))
    } else if value > parse(max)? {
        Err(format!("must be at most {max}"))
    } else {
        Ok(value)
    }
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number = number.parse().map_err(|_| "must start with a whole number".to_owned())?;
    Ok((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for text in ["", "30", "-1s", "1.5s", "s", "1w", "99999999999999999d"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("1KB"), Ok(1_000));
        assert_eq!(bytes("8388608"), Ok(8 << 20));
        for text in ["", "MiB", "-1", "1.5GiB", "1 furlong", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_range_includes_its_bounds() {
        let parse = duration_within("1m", "2h");
        assert_eq!(parse("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(parse("59s"), Err("must be at least 1m".to_owned()));
        assert_eq!(parse("7201s"), Err("must be at most 2h".to_owned()));
        assert_eq!(bytes_within("1B", "1KiB")("0"), Err("must be at least 1B".to_owned()));
        assert_eq!(bytes_within("1B", "1KiB")("1KiB"), Ok(1_024));
    }
}
