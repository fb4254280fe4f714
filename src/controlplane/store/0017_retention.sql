-- Rows and bytes of the tables that grow with use. Triggers count them: summing a table anew would read all of it. The bytes
-- are those of the texts, and a round number for the rest of a row and its place in indexes.
CREATE TABLE table_size (
    name TEXT PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO table_size
    SELECT 'event', count(*), coalesce(sum(octet_length(line) + 500), 0) FROM event;
INSERT INTO table_size
    SELECT 'audit_log', count(*), coalesce(sum(coalesce(octet_length(request), 0) + 300), 0) FROM audit_log;
CREATE TRIGGER event_counted AFTER INSERT ON event BEGIN
    UPDATE table_size SET rows = rows + 1, bytes = bytes + octet_length(NEW.line) + 500 WHERE name = 'event';
END;
CREATE TRIGGER event_discounted AFTER DELETE ON event BEGIN
    UPDATE table_size SET rows = rows - 1, bytes = bytes - octet_length(OLD.line) - 500 WHERE name = 'event';
END;
CREATE TRIGGER audit_log_counted AFTER INSERT ON audit_log BEGIN
    UPDATE table_size SET rows = rows + 1, bytes = bytes + coalesce(octet_length(NEW.request), 0) + 300
    WHERE name = 'audit_log';
END;
CREATE TRIGGER audit_log_recounted AFTER UPDATE OF request ON audit_log BEGIN
    UPDATE table_size
    SET bytes = bytes + coalesce(octet_length(NEW.request), 0) - coalesce(octet_length(OLD.request), 0)
    WHERE name = 'audit_log';
END;
CREATE TRIGGER audit_log_discounted AFTER DELETE ON audit_log BEGIN
    UPDATE table_size SET rows = rows - 1, bytes = bytes - coalesce(octet_length(OLD.request), 0) - 300
    WHERE name = 'audit_log';
END;
CREATE INDEX event_by_arrival ON event (received_at);
CREATE INDEX event_not_allowed ON event (received_at) WHERE decision = 'deny';
CREATE INDEX audit_log_by_time ON audit_log (at);
CREATE INDEX audit_log_refused ON audit_log (at) WHERE status >= 400 AND status < 500;
CREATE INDEX audit_log_refused_of ON audit_log (actor, id) WHERE status >= 400 AND status < 500;
CREATE INDEX log_fault_by_time ON log_fault (noted_at);
-- A call that is refused again in the same words is counted at the first refusal of the hour.
ALTER TABLE audit_log ADD COLUMN repeated INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit_log ADD COLUMN last_at INTEGER;
-- What refused calls had sent.
UPDATE audit_log SET request = NULL WHERE status >= 400 AND status < 500;
-- Which version a replica had at which time: removals older than that are forgotten.
CREATE TABLE version_mark (
    data_plane TEXT NOT NULL REFERENCES data_plane, at INTEGER NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (data_plane, at)
) STRICT, WITHOUT ROWID;
