-- Set by a recovery: a lost history may have given values of the generations that come next.
ALTER TABLE token ADD COLUMN generations_lost INTEGER NOT NULL DEFAULT 0 CHECK (generations_lost IN (0, 1));
ALTER TABLE user ADD COLUMN generations_lost INTEGER NOT NULL DEFAULT 0 CHECK (generations_lost IN (0, 1));
