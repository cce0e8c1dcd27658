//! Address ranges of the spec.

use std::net::IpAddr;

use super::error::{Error, Result};

/// Checks a list of address ranges. `field` is that of the list.
///
/// # Errors
/// [`Error::Invalid`] with the index of the first one that a NetworkPolicy or a Service would refuse.
pub fn check_cidrs(field: &str, ranges: &[String]) -> Result<()> {
    let mut ranges = ranges.iter().enumerate();
    ranges.try_for_each(|(index, range)| check_cidr(&format!("{field}[{index}]"), range))
}

fn check_cidr(field: &str, text: &str) -> Result<()> {
    let fits = text.split_once('/').is_some_and(|(address, length)| {
        let max = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        length.parse::<u8>().is_ok_and(|length| length <= max)
    });
    if fits {
        Ok(())
    } else {
        Err(Error::invalid(field, format!("{text:?} is not an address range such as 10.0.0.0/8")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_ranges_that_a_policy_would_refuse_are_named() {
        for cidr in ["10.0.0.0/8", "::/0", "192.168.1.1/32"] {
            assert!(check_cidr("f", cidr).is_ok(), "{cidr}");
        }
        for cidr in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "host/8", "10.0.0/8"] {
            let error = check_cidr("spec.redis.external.cidrs[0]", cidr).unwrap_err();
            assert!(error.to_string().starts_with("spec.redis.external.cidrs[0]"), "{error}");
            assert!(!error.is_retryable());
        }
    }
}
