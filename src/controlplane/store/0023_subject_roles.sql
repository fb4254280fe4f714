-- Roles on deployments and on their Dags that users and teams have.
CREATE TABLE user_deployment_role (
    holder TEXT NOT NULL REFERENCES user, deployment TEXT NOT NULL REFERENCES deployment,
    entity_type TEXT NOT NULL CHECK (entity_type IN ('DEPLOYMENT', 'DAG', 'DAG_TAG')), entity TEXT NOT NULL,
    role TEXT NOT NULL, PRIMARY KEY (holder, deployment, entity_type, entity)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_deployment_role_by_deployment ON user_deployment_role (deployment);
CREATE INDEX user_deployment_role_by_role ON user_deployment_role (role);
CREATE TABLE team_deployment_role (
    holder TEXT NOT NULL REFERENCES team, deployment TEXT NOT NULL REFERENCES deployment,
    entity_type TEXT NOT NULL CHECK (entity_type IN ('DEPLOYMENT', 'DAG', 'DAG_TAG')), entity TEXT NOT NULL,
    role TEXT NOT NULL, PRIMARY KEY (holder, deployment, entity_type, entity)
) STRICT, WITHOUT ROWID;
CREATE INDEX team_deployment_role_by_deployment ON team_deployment_role (deployment);
CREATE INDEX team_deployment_role_by_role ON team_deployment_role (role);
