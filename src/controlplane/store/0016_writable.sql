-- One row that the readiness probe rewrites, so that a database that can't be written is noticed before a call needs it.
CREATE TABLE writable (id INTEGER PRIMARY KEY CHECK (id = 1), filler BLOB NOT NULL) STRICT;
