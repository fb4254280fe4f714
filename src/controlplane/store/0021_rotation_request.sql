-- A request can also ask for a new value of a direct-access token. SQLite changes no CHECK, so the table is made anew.
CREATE TABLE request_of_any_kind (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organization,
    kind TEXT NOT NULL CHECK (kind IN ('DIRECT_ACCESS_TOKEN', 'DIRECT_ACCESS_ROTATION', 'END_DUAL_CONTROL')),
    body TEXT NOT NULL, requested_by TEXT NOT NULL REFERENCES user, requested_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, decided_by TEXT REFERENCES user, decided_at INTEGER, approved INTEGER, reason TEXT,
    carried_out_at INTEGER, token TEXT REFERENCES token
) STRICT;
INSERT INTO request_of_any_kind
    SELECT id, organization, kind, body, requested_by, requested_at, expires_at, decided_by, decided_at, approved, reason,
        carried_out_at, token FROM request ORDER BY rowid;
DROP TABLE request;
ALTER TABLE request_of_any_kind RENAME TO request;
CREATE INDEX request_by_organization ON request (organization, requested_at);
