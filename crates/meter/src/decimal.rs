//! Exact decimal numbers.

use std::cmp::Ordering;
use std::fmt;
use std::ops::AddAssign;

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, RoundingMode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest number of digits of a value, and of digits after its decimal point.
pub const MAX_DIGITS: u32 = 38;
/// Digits after the decimal point of a quotient.
const QUOTIENT_DIGITS: i64 = 18;

/// An exact decimal number. Sums of any number of values are exact.
#[derive(Debug, Clone)]
pub struct Decimal(Repr);

#[derive(Debug, Clone)]
enum Repr {
    /// `digits` divided by 10 to the power of `scale`: what nearly all numbers are, and fast.
    Small { digits: i128, scale: u32 },
    /// Any other.
    Big(Box<BigDecimal>),
}

/// Why a text is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoDecimal {
    /// It is not a number as JSON has it.
    #[error("is no number")]
    NoNumber,
    /// It is a number, but too large or too exact.
    #[error("has more than {MAX_DIGITS} digits, or more than {MAX_DIGITS} after the decimal point")]
    TooManyDigits,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self(Repr::Small { digits: 0, scale: 0 });

    /// Reads a number of the JSON grammar. Zeros at its ends do not count as digits.
    ///
    /// # Errors
    /// [`NoDecimal`].
    pub fn parse(text: &str) -> Result<Self, NoDecimal> {
        let bytes = text.as_bytes();
        let (negative, rest) = match bytes {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let (digits, scale) = match rest {
            // The usual numbers, which fit into a register.
            _ if rest.len() <= 18 => short(rest).map_or_else(|| long(rest), |(digits, scale)| Ok((digits, scale))),
            _ => long(rest),
        }?;
        Ok(Self(Repr::Small { digits: if negative { -digits } else { digits }, scale }))
    }

    fn to_big(&self) -> BigDecimal {
        match &self.0 {
            Repr::Small { digits, scale } => BigDecimal::new(BigInt::from(*digits), i64::from(*scale)),
            Repr::Big(big) => (**big).clone(),
        }
    }

    /// Returns this number divided by another one, rounded to the nearest with 18 digits after the decimal point, and of two that
    /// are as near to the even one; `None` for a division by zero.
    pub fn divided_by(&self, divisor: u64) -> Option<Self> {
        if divisor == 0 {
            return None;
        }
        // The exact remainder decides how it is rounded: the quotient has no end.
        let scaled = self.to_big().with_scale(self.scale().max(0)) * BigDecimal::new(BigInt::from(1), -QUOTIENT_DIGITS);
        let (digits, scale) = scaled.with_scale(self.scale().max(0)).into_bigint_and_exponent();
        let ten_to_scale = BigInt::from(10).pow(u32::try_from(scale).ok()?);
        let divisor = ten_to_scale * divisor;
        let (quotient, remainder) = (&digits / &divisor, &digits % &divisor);
        let doubled: BigInt = remainder.magnitude().clone().into();
        let away = match (doubled * 2_u8).cmp(&divisor) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => &quotient % 2_u8 != BigInt::ZERO,
        };
        let one = BigInt::from(if digits.sign() == bigdecimal::num_bigint::Sign::Minus { -1 } else { 1 });
        let rounded = if away { quotient + one } else { quotient };
        Some(Self(Repr::Big(Box::new(BigDecimal::new(rounded, QUOTIENT_DIGITS)))))
    }

    fn scale(&self) -> i64 {
        match &self.0 {
            Repr::Small { scale, .. } => i64::from(*scale),
            Repr::Big(big) => big.fractional_digit_count(),
        }
    }
}

impl From<u64> for Decimal {
    fn from(number: u64) -> Self {
        Self(Repr::Small { digits: i128::from(number), scale: 0 })
    }
}

/// Reads digits with at most one point, at most 18 bytes; `None` if there is anything else.
fn short(text: &[u8]) -> Option<(i128, u32)> {
    let (mut digits, mut scale, mut point) = (0_i64, 0, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                digits = digits * 10 + i64::from(byte - b'0');
                scale += u32::from(point);
            }
            b'.' if !point && at > 0 && at + 1 < text.len() => point = true,
            _ => return None,
        }
    }
    let leading_zero = matches!(text, [b'0', b'0'..=b'9', ..]);
    (!text.is_empty() && !leading_zero).then_some((i128::from(digits), scale))
}

/// Reads the digits of any number, without its sign.
fn long(text: &[u8]) -> Result<(i128, u32), NoDecimal> {
    let text = std::str::from_utf8(text).map_err(|_| NoDecimal::NoNumber)?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(NoDecimal::NoNumber),
        None => (mantissa, ""),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let whole_is_allowed = !whole.is_empty() && (whole == "0" || !whole.starts_with('0'));
    if !whole_is_allowed || !are_digits(whole) || !are_digits(fraction) {
        return Err(NoDecimal::NoNumber);
    }
    let exponent = exponent.map_or(Ok(0), parse_exponent)?;
    let all = [whole, fraction].concat();
    let significant = all.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        return Ok((0, 0));
    }
    let zeros = significant.len() - trimmed.len();
    let too_many = NoDecimal::TooManyDigits;
    // The digits are those of `trimmed`, followed by as many zeros as this says, or before the point if it is negative.
    let shift = exponent - fraction.len() as i64 + zeros as i64;
    let max = i64::from(MAX_DIGITS);
    if trimmed.len() as i64 > max || shift < -max || trimmed.len() as i64 + shift > max {
        return Err(too_many);
    }
    let digits: i128 = trimmed.parse().map_err(|_| too_many)?;
    let shift = i32::try_from(shift).map_err(|_| too_many)?;
    match u32::try_from(shift) {
        Ok(shift) => Ok((digits.checked_mul(10_i128.pow(shift)).ok_or(too_many)?, 0)),
        Err(_) => Ok((digits, shift.unsigned_abs())),
    }
}

/// Reads the exponent of a number. One that is too long is as good as any that is too large.
fn parse_exponent(text: &str) -> Result<i64, NoDecimal> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NoDecimal::NoNumber);
    }
    // More digits than any text has, so that the number is out of range whatever its mantissa is, unless that is zero.
    let size = digits.parse().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    Ok(if negative { -size } else { size })
}

/// Returns two numbers with the same scale as their digits; `None` if they do not fit.
fn aligned((a, a_scale): (i128, u32), (b, b_scale): (i128, u32)) -> Option<(i128, i128, u32)> {
    let scale = a_scale.max(b_scale);
    let raise = |digits: i128, by: u32| match by {
        0 => Some(digits),
        by => digits.checked_mul(10_i128.checked_pow(by)?),
    };
    Some((raise(a, scale - a_scale)?, raise(b, scale - b_scale)?, scale))
}

impl AddAssign<&Self> for Decimal {
    fn add_assign(&mut self, other: &Self) {
        if let (Repr::Small { digits: a, scale: a_scale }, Repr::Small { digits: b, scale: b_scale }) =
            (&self.0, &other.0)
            && let Some((a, b, scale)) = aligned((*a, *a_scale), (*b, *b_scale))
            && let Some(digits) = a.checked_add(b)
        {
            self.0 = Repr::Small { digits, scale };
            return;
        }
        self.0 = Repr::Big(Box::new(self.to_big() + other.to_big()));
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Repr::Small { digits: a, scale: a_scale }, Repr::Small { digits: b, scale: b_scale }) =
            (&self.0, &other.0)
            && let Some((a, b, _)) = aligned((*a, *a_scale), (*b, *b_scale))
        {
            return a.cmp(&b);
        }
        self.to_big().cmp(&other.to_big())
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

/// Without an exponent, and without zeros at the end of the digits after the decimal point.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_big().with_scale_round(self.scale().max(0), RoundingMode::HalfEven).to_plain_string();
        let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        f.write_str(if trimmed == "-0" { "0" } else { trimmed })
    }
}

/// How a number is encoded.
#[derive(Serialize, Deserialize)]
enum Encoded<'a> {
    Small(i128, u32),
    Big(&'a str),
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::Small { digits, scale } => Encoded::Small(*digits, *scale).serialize(serializer),
            Repr::Big(_) => Encoded::Big(&self.to_string()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Encoded::deserialize(deserializer)? {
            Encoded::Small(digits, scale) => Repr::Small { digits, scale },
            Encoded::Big(text) => Repr::Big(Box::new(text.parse().map_err(serde::de::Error::custom)?)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn numbers_are_read_and_written_without_a_loss() {
        let many = "12345678901234567890123456789012345678";
        let small = format!("0.{}1", "0".repeat(37));
        for (text, written) in [
            ("0", "0"),
            ("-0.00", "0"),
            ("1.50", "1.5"),
            ("-12.25", "-12.25"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("0e99999999999999999999", "0"),
            ("100000000000000000000", "100000000000000000000"),
            (many, many),
            ("1e-38", &small),
            ("0.1000000000000000000000000000000000000000000000", "0.1"),
        ] {
            assert_eq!(decimal(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_long_is_refused() {
        for text in
            ["", "-", "+1", "1.", ".5", "01", "00.5", "1e", "1e+", "0x1", "NaN", "1 ", "--1", "1.2.3", "1_0", "١"]
        {
            assert_eq!(Decimal::parse(text), Err(NoDecimal::NoNumber), "{text:?}");
        }
        for text in ["1e38", "1e-39", "123456789012345678901234567890123456789", "1e99999999999999999999", "12e37"] {
            assert_eq!(Decimal::parse(text), Err(NoDecimal::TooManyDigits), "{text}");
        }
    }

    #[test]
    fn sums_are_exact_beyond_what_fits_into_a_register() {
        let mut sum = Decimal::ZERO;
        for text in ["99999999999999999999999999999999999999", "1e-38", "99999999999999999999999999999999999999", "0.5"]
        {
            sum += &decimal(text);
        }
        assert_eq!(sum.to_string(), format!("199999999999999999999999999999999999998.5{}1", "0".repeat(36)));
        sum += &decimal("-0.5");
        let encoded = postcard::to_allocvec(&sum).unwrap();
        assert_eq!(postcard::from_bytes::<Decimal>(&encoded).unwrap(), sum);
        assert!(sum > decimal("1") && decimal("-1e37") < decimal("1e-38"));
    }

    #[test]
    fn a_quotient_is_rounded_to_the_nearest_by_the_exact_remainder() {
        let divided = |text: &str, by| decimal(text).divided_by(by).map(|quotient| quotient.to_string());
        assert_eq!(divided("10", 4).as_deref(), Some("2.5"));
        assert_eq!(divided("-1", 3).as_deref(), Some("-0.333333333333333333"));
        assert_eq!(divided("2", 3).as_deref(), Some("0.666666666666666667"));
        assert_eq!(divided("0.000000000000000005", 10).as_deref(), Some("0"));
        assert_eq!(divided("0.000000000000000015", 10).as_deref(), Some("0.000000000000000002"));
        assert_eq!(divided("0.0000000000000000150000001", 10).as_deref(), Some("0.000000000000000002"));
        assert_eq!(divided("0.0000000000000000050000001", 10).as_deref(), Some("0.000000000000000001"));
        assert_eq!(divided("1", 0), None);
    }

    proptest! {
        #[test]
        fn numbers_are_those_that_bigdecimal_reads(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,15})?([eE][+-]?[0-3])?") {
            let expected: BigDecimal = text.parse().unwrap();
            prop_assert_eq!(decimal(&text).to_big().normalized(), expected.normalized());
        }

        #[test]
        fn a_sum_does_not_depend_on_the_order(
            mut texts in prop::collection::vec("-?[1-9][0-9]{0,37}|-?0\\.[0-9]{1,38}|-?[1-9]e-?[0-9]", 1..20))
        {
            let sum = |texts: &[String]| texts.iter().fold(Decimal::ZERO, |mut sum, text| {
                sum += &decimal(text);
                sum
            });
            let exact: BigDecimal = texts.iter().map(|text| text.parse::<BigDecimal>().unwrap()).sum();
            let one = sum(&texts);
            texts.reverse();
            prop_assert_eq!(one.to_big().normalized(), exact.normalized());
            prop_assert_eq!(one.to_string(), sum(&texts).to_string());
        }
    }
}
