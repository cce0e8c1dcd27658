-- The receipts that were stored together with a dead letter that is a whole entry, 16 bytes each. NULL: not known.
ALTER TABLE dead_letters ADD COLUMN receipts BLOB;
