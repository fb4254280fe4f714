-- The thumbprint of a node's key, by which the one who signed a proof is found.
ALTER TABLE node ADD COLUMN kid TEXT;
UPDATE node SET kid = key_id(key);
CREATE INDEX node_by_kid ON node (kid);
-- When a token was last used, and for which deployment (or for the control plane); to the minute.
ALTER TABLE token ADD COLUMN last_used_at INTEGER;
ALTER TABLE token ADD COLUMN last_used_on TEXT;
-- Which call with which key made which value: enough to mint it again, and nothing of the value itself.
CREATE TABLE idempotency (
    actor TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, token TEXT NOT NULL REFERENCES token,
    generation INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (actor, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_time ON idempotency (at);
