//! Kubernetes quantities: `512Mi`, `1G`, `250m`, `1e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Returns the value in thousandths, which is the precision with which Kubernetes compares quantities. The error
/// contains the text.
pub fn milli(quantity: &Quantity) -> Result<i128, String> {
    let text = quantity.0.trim();
    let wrong = || format!("{text:?} is not a quantity, such as 1Gi");
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (numerator, denominator) = factor(suffix).ok_or_else(wrong)?;
    let (digits, decimals) = parse_decimal(number).ok_or_else(wrong)?;
    let scaled = digits.checked_mul(numerator).and_then(|n| n.checked_mul(1_000)).ok_or_else(wrong)?;
    let divisor = denominator.checked_mul(10_i128.checked_pow(decimals).ok_or_else(wrong)?).ok_or_else(wrong)?;
    // Kubernetes rounds up, away from zero.
    let rest = i128::from(scaled % divisor != 0) * scaled.signum();
    Ok(scaled / divisor + rest)
}

/// Returns the value in whole units, rounded up, such as the bytes of a memory quantity.
pub fn whole(quantity: &Quantity) -> Result<i64, String> {
    let milli = milli(quantity)?;
    i64::try_from(milli / 1_000 + i128::from(milli % 1_000 > 0)).map_err(|_| format!("{:?} is too large", quantity.0))
}

/// Returns whether two texts are the same quantity. The API server stores quantities in another form, such as
/// `1024Mi` as `1Gi`.
pub fn same(one: &str, other: &str) -> bool {
    let milli = |text: &str| milli(&Quantity(text.to_owned()));
    matches!((milli(one), milli(other)), (Ok(one), Ok(other)) if one == other)
}

fn factor(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 1));
    let decimal = |power: u32| Some((10_i128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let size = 10_i128.checked_pow(power.unsigned_abs())?;
            Some(if power < 0 { (1, size) } else { (size, 1) })
        }
    }
}

/// Returns the digits without the decimal point, and the number of digits after it.
fn parse_decimal(text: &str) -> Option<(i128, u32)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    Some((digits, u32::try_from(part.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<i128, String> {
        milli(&Quantity(text.to_owned()))
    }

    #[test]
    fn quantities_mean_what_kubernetes_says() {
        for (text, expected) in [
            ("1", 1_000),
            ("250m", 250),
            ("0.5", 500),
            (".5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("512Mi", 536_870_912_000),
            ("1k", 1_000_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("100u", 1),
            ("-1", -1_000),
        ] {
            assert_eq!(of(text), Ok(expected), "{text}");
        }
        for text in ["", "Gi", "lots", "1 Gi", "1gi", "1.2.3", "--1", "1e", "1e999"] {
            assert!(of(text).is_err(), "{text:?} is {:?}", of(text));
        }
    }

    #[test]
    fn the_same_amount_may_be_written_differently() {
        assert!(same("1024Mi", "1Gi"));
        assert!(same("0.5", "500m"));
        assert!(same("1000m", "1"));
        assert!(!same("1G", "1Gi"));
        assert!(!same("x", "x"));
        assert_eq!(whole(&Quantity("1500m".to_owned())), Ok(2));
    }
}
