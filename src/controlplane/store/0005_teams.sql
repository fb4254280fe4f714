-- Teams: their members have the roles of the team besides their own.
CREATE TABLE team (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organization, name TEXT NOT NULL, description TEXT NOT NULL,
    role TEXT NOT NULL, created_at INTEGER NOT NULL, created_by TEXT NOT NULL, updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL, UNIQUE (organization, name)
) STRICT;
CREATE TABLE team_member (
    team TEXT NOT NULL REFERENCES team, user TEXT NOT NULL REFERENCES user, PRIMARY KEY (team, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX team_member_by_user ON team_member (user);
CREATE TABLE team_role (
    team TEXT NOT NULL REFERENCES team, workspace TEXT NOT NULL REFERENCES workspace, role TEXT NOT NULL,
    PRIMARY KEY (team, workspace)
) STRICT, WITHOUT ROWID;
