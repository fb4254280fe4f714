-- Who created an object and who changed it last, as the API shows them; none where it was created before this was stored.
ALTER TABLE organization ADD COLUMN created_by TEXT;
ALTER TABLE organization ADD COLUMN updated_at INTEGER;
ALTER TABLE organization ADD COLUMN updated_by TEXT;
ALTER TABLE workspace ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN created_by TEXT;
ALTER TABLE workspace ADD COLUMN updated_at INTEGER;
ALTER TABLE workspace ADD COLUMN updated_by TEXT;
ALTER TABLE deployment ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE deployment ADD COLUMN created_by TEXT;
ALTER TABLE deployment ADD COLUMN updated_at INTEGER;
ALTER TABLE deployment ADD COLUMN updated_by TEXT;
ALTER TABLE user ADD COLUMN updated_at INTEGER;
-- The audit log still knows who created some of them.
UPDATE workspace SET created_by = (SELECT actor FROM audit_log
    WHERE call = 'POST /workspaces' AND target = workspace.id AND status < 300 ORDER BY audit_log.id LIMIT 1);
UPDATE deployment SET created_by = (SELECT actor FROM audit_log
    WHERE call = 'POST /deployments' AND target = deployment.id AND status < 300 ORDER BY audit_log.id LIMIT 1);
UPDATE workspace SET updated_by = created_by;
UPDATE deployment SET updated_by = created_by;
