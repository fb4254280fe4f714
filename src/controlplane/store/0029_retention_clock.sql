-- Time by which retention counts ages: it follows the wall clock, and a jump ahead only after the control plane has run for days.
-- `waited` is the running time since such a jump, in seconds.
CREATE TABLE retention_clock (
    id INTEGER PRIMARY KEY CHECK (id = 1), at INTEGER NOT NULL, waited INTEGER NOT NULL
) STRICT;
-- The last sign of a running control plane. A time in the future, which a wrong clock wrote, gives way to any earlier one.
INSERT INTO retention_clock SELECT 1, max(at), 0 FROM audit_log HAVING max(at) IS NOT NULL;
