//! What only PostgreSQL can show: rotation of receipts, lost connections, several schemas.
