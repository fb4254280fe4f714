-- Every call that may change something. It is written before the call is carried out, and its outcome after: no status
-- means that the control plane ended in between.
CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, organization TEXT NOT NULL REFERENCES organization, at INTEGER NOT NULL,
    actor TEXT NOT NULL, actor_name TEXT NOT NULL, address TEXT, call TEXT NOT NULL, target TEXT, request TEXT,
    status INTEGER, code TEXT
) STRICT;
CREATE INDEX audit_log_by_organization ON audit_log (organization, id);
