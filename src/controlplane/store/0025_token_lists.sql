-- Lists of tokens cost the same at any number of tokens: an index for each order, one for each set that a filter or a
-- caller's grants select, and the number of tokens by scope and kind.
CREATE INDEX token_by_creation ON token (organization, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX token_by_name ON token (organization, name, id) WHERE deleted_at IS NULL;
CREATE INDEX token_by_update ON token (organization, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX token_by_start ON token (organization, start_at, id) WHERE deleted_at IS NULL;
CREATE INDEX token_by_end ON token (organization, coalesce(end_at, 9223372036854775807), id) WHERE deleted_at IS NULL;
CREATE INDEX token_by_entity ON token (entity) WHERE deleted_at IS NULL;
CREATE INDEX token_by_workspace ON token (workspace, type) WHERE deleted_at IS NULL;
CREATE INDEX token_by_creator ON token (created_by) WHERE deleted_at IS NULL;
CREATE TABLE token_count (
    organization TEXT NOT NULL REFERENCES organization, type TEXT NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (organization, type, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO token_count
    SELECT organization, type, kind, count(*) FROM token WHERE deleted_at IS NULL GROUP BY organization, type, kind;
CREATE TRIGGER token_count_insert AFTER INSERT ON token WHEN new.deleted_at IS NULL BEGIN
    INSERT INTO token_count VALUES (new.organization, new.type, new.kind, 1)
        ON CONFLICT (organization, type, kind) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER token_count_update AFTER UPDATE OF deleted_at ON token
WHEN old.deleted_at IS NULL AND new.deleted_at IS NOT NULL BEGIN
    UPDATE token_count SET count = count - 1
        WHERE organization = old.organization AND type = old.type AND kind = old.kind;
END;
CREATE TRIGGER token_count_delete AFTER DELETE ON token WHEN old.deleted_at IS NULL BEGIN
    UPDATE token_count SET count = count - 1
        WHERE organization = old.organization AND type = old.type AND kind = old.kind;
END;
