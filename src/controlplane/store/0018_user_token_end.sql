-- When a user's token ends. Of a token that was rotated before this was kept it is not known.
ALTER TABLE user ADD COLUMN token_ends_at INTEGER;
UPDATE user SET token_ends_at = created_at + 365 * 86400 WHERE generation = 1;
