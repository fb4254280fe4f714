-- Where from, and how often in a minute, a direct-access token may be used: fixed at creation.
ALTER TABLE token ADD COLUMN sources TEXT NOT NULL DEFAULT '[]';
ALTER TABLE token ADD COLUMN rate_limit INTEGER;
