//! What stands in the row of an erased event.

use sluice_event::PayloadHash;

/// Its payload.
pub(crate) const PAYLOAD: &str = "null";
/// The hash of its payload. That of the former payload would tell it to whoever can guess it. No payload has this hash, but for
/// one of 2¹²⁸.
pub(crate) const PAYLOAD_HASH: PayloadHash = PayloadHash::from_u128(0);
