-- What the nodes' audit logs hold, as they sent it. A log that began anew, or split, goes on as the next branch: nothing that
-- arrived is ever overwritten.
CREATE TABLE event (
    node TEXT NOT NULL REFERENCES node, branch INTEGER NOT NULL, sequence INTEGER NOT NULL, hash TEXT NOT NULL,
    time INTEGER NOT NULL, kind TEXT NOT NULL, decision TEXT, token TEXT, line TEXT NOT NULL, received_at INTEGER NOT NULL,
    PRIMARY KEY (node, branch, sequence)
) STRICT, WITHOUT ROWID;
-- An event counts once, however often it is sent.
CREATE UNIQUE INDEX event_once ON event (node, hash);
CREATE INDEX event_use_by_time ON event (node, time) WHERE decision = 'allow';
CREATE INDEX event_use_by_token ON event (token, time) WHERE decision = 'allow';
-- Where each node's log stands.
CREATE TABLE node_log (
    node TEXT PRIMARY KEY REFERENCES node, branch INTEGER NOT NULL, sequence INTEGER NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE TABLE log_fault (
    node TEXT NOT NULL REFERENCES node, branch INTEGER NOT NULL, sequence INTEGER NOT NULL, kind TEXT NOT NULL,
    what TEXT NOT NULL, noted_at INTEGER NOT NULL, PRIMARY KEY (node, branch, sequence, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE token_use (
    token TEXT PRIMARY KEY REFERENCES token, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, uses INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Revocations made on hosts, with the text their nodes signed.
CREATE TABLE local_revocation (
    node TEXT NOT NULL REFERENCES node, token TEXT NOT NULL, data_plane TEXT NOT NULL REFERENCES data_plane,
    revoked_at INTEGER NOT NULL, operator TEXT NOT NULL, reason TEXT NOT NULL, text TEXT NOT NULL, outcome TEXT NOT NULL,
    received_from TEXT NOT NULL, received_at INTEGER NOT NULL, PRIMARY KEY (node, token)
) STRICT, WITHOUT ROWID;
CREATE TABLE outage (
    node TEXT NOT NULL REFERENCES node, id TEXT NOT NULL, data_plane TEXT NOT NULL REFERENCES data_plane,
    began_at INTEGER NOT NULL, ended_at INTEGER NOT NULL, statement TEXT NOT NULL, last_sequence INTEGER NOT NULL,
    reported_at INTEGER NOT NULL, closed_at INTEGER, PRIMARY KEY (node, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outage_by_time ON outage (data_plane, began_at);
-- What others are to be told. A key is announced once; `body` goes once it has been delivered.
CREATE TABLE announcement (
    id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, body TEXT NOT NULL, made_at INTEGER NOT NULL, attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL, delivered_at INTEGER, last_error TEXT
) STRICT;
CREATE INDEX announcement_due ON announcement (next_at) WHERE delivered_at IS NULL;
