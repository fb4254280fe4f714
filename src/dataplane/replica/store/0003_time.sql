-- When a token ends by its record; NULL where that is not known.
ALTER TABLE ledger ADD COLUMN expires INTEGER;
-- Generations up to this one were seen as expired under a time floor that was taken back since. They stay so.
ALTER TABLE ledger ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
UPDATE ledger SET expires = (
    SELECT CASE WHEN json_valid(body) THEN CAST(json_extract(body, '$.expiresAt') AS INTEGER) END FROM record
    WHERE record.kind = 'token' AND record.key = ledger.key
) WHERE kind = 'token';
-- How long the head in force has been held, in seconds counted by a clock nobody can set, and as of when it counts as
-- signed where an administrator of this host has accepted a clock that its own instant contradicts.
CREATE TABLE age (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, iat INTEGER NOT NULL,
    held INTEGER NOT NULL, signed INTEGER NOT NULL) STRICT;
