-- The generation that `expires` is the end of, and the time from which the token is valid; NULL where that is not known.
ALTER TABLE ledger ADD COLUMN expires_of INTEGER;
ALTER TABLE ledger ADD COLUMN starts INTEGER;
-- 1 where the record in force says more than was proved of the same generation: what was proved counts.
ALTER TABLE ledger ADD COLUMN narrowed INTEGER NOT NULL DEFAULT 0;
