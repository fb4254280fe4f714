CREATE TABLE keyset (version INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL) STRICT;
CREATE TABLE record (kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
-- What was once proved about a token or a role, so that no later feed can say otherwise.
CREATE TABLE ledger (kind TEXT NOT NULL, key TEXT NOT NULL, proved BLOB NOT NULL, generation INTEGER NOT NULL,
    revoked INTEGER NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
-- The latest time this node has proof of.
CREATE TABLE floor (id INTEGER PRIMARY KEY CHECK (id = 1), time INTEGER NOT NULL) STRICT;
-- Heads that contradict one this node had proved: evidence.
CREATE TABLE fork (version INTEGER NOT NULL, text TEXT NOT NULL UNIQUE) STRICT;
