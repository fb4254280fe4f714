-- How long an approval may take, in seconds; none: a direct-access token needs no second owner.
ALTER TABLE organization ADD COLUMN approval_seconds INTEGER;
-- What one owner asked for and another is to approve. A token is made when it is collected: no value is in here.
CREATE TABLE request (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organization,
    kind TEXT NOT NULL CHECK (kind IN ('DIRECT_ACCESS_TOKEN', 'END_DUAL_CONTROL')), body TEXT NOT NULL,
    requested_by TEXT NOT NULL REFERENCES user, requested_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    decided_by TEXT REFERENCES user, decided_at INTEGER, approved INTEGER, reason TEXT,
    carried_out_at INTEGER, token TEXT REFERENCES token
) STRICT;
CREATE INDEX request_by_organization ON request (organization, requested_at);
