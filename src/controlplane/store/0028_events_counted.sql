-- The rows and bytes of `event` are counted once for each transaction, by what inserts them. A trigger counted each row, and made
-- SQLite keep a copy of every page that an insertion changes.
DROP TRIGGER event_counted;
