//! `timestamptz` ⇄ [`Timestamp`], in binary: no parsing, no arithmetic in SQL.

use sluice_event::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef, Postgres};
use sqlx::{Decode, Encode, Type};

/// 2000-01-01T00:00:00Z, where PostgreSQL counts from, in µs since 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// A moment as PostgreSQL keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(pub Timestamp);

impl Moment {
    /// As PostgreSQL keeps and sends it: µs since 2000. No moment that a `Timestamp` can hold is out
    /// of its range.
    pub fn as_micros(self) -> i64 {
        self.0.as_micros() - EPOCH
    }
}

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Moment {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.as_micros(), buffer)
    }

    fn size_hint(&self) -> usize {
        size_of::<i64>()
    }
}

impl Decode<'_, Postgres> for Moment {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Postgres>>::decode(value)?.checked_add(EPOCH);
        let moment = micros.and_then(Timestamp::from_micros).ok_or("a moment outside the years 1 to 9999")?;
        Ok(Self(moment))
    }
}
