-- Roles in workspaces that a token of the organization has besides its own.
CREATE TABLE token_workspace_role (
    token TEXT NOT NULL REFERENCES token, workspace TEXT NOT NULL REFERENCES workspace, role TEXT NOT NULL,
    granted_at INTEGER NOT NULL, granted_by TEXT NOT NULL, PRIMARY KEY (token, workspace)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_workspace_role_by_workspace ON token_workspace_role (workspace);
