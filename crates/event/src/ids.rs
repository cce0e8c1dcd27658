//! The identifiers of events, payloads, entries and requests. Each is 128 bits and a type of its own, so
//! that the compiler refuses one in the place of another.
//!
//! They are stored as `uuid`, the cheapest key of 16 bytes in PostgreSQL, and as a blob of 16 bytes in
//! SQLite: with the feature `sqlx` each is encoded as [`Uuid`] is, here and nowhere else.

use std::fmt;

use uuid::Uuid;

use crate::ambient;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Creates the identifier with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Returns its bytes. Identifiers are ordered by them.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Creates the identifier whose bytes are this number, big endian.
            pub const fn from_u128(number: u128) -> Self {
                Self(Uuid::from_u128(number))
            }

            /// Returns its bytes as a big-endian number. Numbers are ordered as the bytes are.
            pub const fn as_u128(&self) -> u128 {
                self.0.as_u128()
            }
        }

        /// Hexadecimal in lower case, with the hyphens of a UUID.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

/// How identifiers are encoded for databases: as the UUID in them is.
#[cfg(feature = "sqlx")]
macro_rules! encoded_as_uuid {
    ($($name:ident)*) => {
        $(
            impl<DB: sqlx::Database> sqlx::Type<DB> for $name
            where
                Uuid: sqlx::Type<DB>,
            {
                fn type_info() -> DB::TypeInfo {
                    Uuid::type_info()
                }

                fn compatible(column: &DB::TypeInfo) -> bool {
                    Uuid::compatible(column)
                }
            }

            impl<'q, DB: sqlx::Database> sqlx::Encode<'q, DB> for $name
            where
                Uuid: sqlx::Encode<'q, DB>,
            {
                fn encode_by_ref(
                    &self,
                    buffer: &mut DB::ArgumentBuffer,
                ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
                    self.0.encode_by_ref(buffer)
                }

                fn size_hint(&self) -> usize {
                    self.0.size_hint()
                }
            }

            impl<'r, DB: sqlx::Database> sqlx::Decode<'r, DB> for $name
            where
                Uuid: sqlx::Decode<'r, DB>,
            {
                fn decode(value: DB::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
                    Uuid::decode(value).map(Self)
                }
            }

            impl sqlx::postgres::PgHasArrayType for $name {
                fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                    Uuid::array_type_info()
                }
            }
        )*
    };
}

#[cfg(feature = "sqlx")]
encoded_as_uuid! { EventKey PayloadHash RequestId ReceiptId }

/// Identifiers that are drawn at random (UUID version 4).
macro_rules! random {
    ($($name:ident)*) => {
        $(impl $name {
            /// Creates a new identifier with 122 random bits.
            pub fn random() -> Self {
                Self(uuid::Builder::from_random_bytes(ambient::random_u128().to_be_bytes()).into_uuid())
            }
        })*
    };
}

id! {
    /// The dedup key, equal for two sendings of the same event. Computed by [`Keyer::key`](crate::Keyer::key).
    EventKey
}
id! {
    /// The hash of a payload's JSON value. Computed by [`canonical::hash`](crate::canonical::hash).
    PayloadHash
}
id! {
    /// Identifies a packed entry. It stays the same when the append is repeated.
    EntryId
}
id! {
    /// Identifies a request in its response, in the logs and in the row of each of its events.
    RequestId
}
id! {
    /// Identifies a committed entry, or a committed request that has an `Idempotency-Key`.
    ReceiptId
}
id! {
    /// The hash of a client and its `Idempotency-Key`.
    IdempotencyKeyHash
}
id! {
    /// The hash of a request's body.
    BodyHash
}

random! { EntryId RequestId }

impl RequestId {
    /// Parses a UUID in any of its usual notations; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    /// Writes the displayed form into `buffer` and returns it, without an allocation.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; 36]) -> &'b str {
        self.0.hyphenated().encode_lower(buffer)
    }
}

impl ReceiptId {
    /// Parses a UUID; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

/// The receipt of an entry has the same bytes as the entry's id.
impl From<EntryId> for ReceiptId {
    fn from(entry: EntryId) -> Self {
        Self(entry.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_displayed_as_a_uuid_and_read_back() {
        let id = RequestId::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        assert_eq!(id.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(id.encode(&mut [0; 36]), id.to_string());
        assert_eq!(RequestId::parse(&id.to_string()), Some(id));
        assert_eq!(RequestId::parse("evt-1"), None);
    }

    #[test]
    fn numbers_order_identifiers_as_their_bytes_do() {
        let (low, high) = (EventKey::from_u128(1), EventKey::from_bytes([0xff; 16]));
        assert!(low < high && low.as_u128() < high.as_u128());
    }
}
