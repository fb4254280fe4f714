-- The version before which no delta begins: whoever holds an older one, or one of a history that was lost, gets a snapshot.
CREATE TABLE oldest_delta (
    data_plane TEXT PRIMARY KEY REFERENCES data_plane, version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
