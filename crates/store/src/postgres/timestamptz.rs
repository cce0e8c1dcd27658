//! Conversion between `timestamptz` and [`Timestamp`] in the binary format: microseconds since the year 2000.
//! It needs neither parsing nor arithmetic in SQL.

use sluice_event::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef, Postgres};
use sqlx::{Decode, Encode, Type};

use sluice_pgcopy::PG_EPOCH;

/// The ids of the types `timestamptz` and `timestamptz[]` in `pg_type`, the same in every database.
const OID: Oid = Oid(1184);
const ARRAY_OID: Oid = Oid(1185);

/// A timestamp as PostgreSQL stores it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timestamptz(pub Timestamp);

impl Type<Postgres> for Timestamptz {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(OID)
    }
}

impl PgHasArrayType for Timestamptz {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(ARRAY_OID)
    }
}

impl Encode<'_, Postgres> for Timestamptz {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // Every `Timestamp` is within PostgreSQL's range.
        Encode::<Postgres>::encode(self.0.as_micros() - PG_EPOCH, buffer)
    }

    fn size_hint(&self) -> usize {
        size_of::<i64>()
    }
}

impl Decode<'_, Postgres> for Timestamptz {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Postgres>>::decode(value)?.checked_add(PG_EPOCH);
        let timestamp = micros.and_then(Timestamp::from_micros).ok_or("a timestamp outside of the years 1 to 9999")?;
        Ok(Self(timestamp))
    }
}
