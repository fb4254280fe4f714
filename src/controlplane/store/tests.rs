//! Tests of the migrations: a database of each earlier version is migrated with its contents.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::protocol::key::SigningKey;

/// Rows that a database of the first version can contain, with a token of each kind.
const ROWS: &str = "
    INSERT INTO organization VALUES ('org_a', 'Acme', 1);
    INSERT INTO user VALUES ('usr_a', 'org_a', 'owner@acme.example', 'ORGANIZATION_OWNER', 1, 1, NULL);
    INSERT INTO workspace VALUES ('wsp_a', 'org_a', 'data', 1);
    INSERT INTO workspace_role VALUES ('usr_a', 'wsp_a', 'WORKSPACE_OWNER');
    INSERT INTO data_plane VALUES ('dpl_a', 'org_a', 'eu', 1, 0, 0, x'');
    INSERT INTO deployment VALUES ('dep_a', 'org_a', 'wsp_a', 'dpl_a', 'prod', '[]', 1);
    INSERT INTO token VALUES ('tok_direct', 'org_a', 'direct', '', 'DEPLOYMENT', 'DIRECT_ACCESS', 'dep_a', 'DEPLOYMENT_ADMIN',
        1, 'abcd', 1, 4000000000, 30, 1, 'usr_a', 1, 'usr_a', NULL, NULL, 'wsp_a');
    INSERT INTO token VALUES ('tok_standard', 'org_a', 'standard', '', 'DEPLOYMENT', 'STANDARD', 'dep_a', 'DEPLOYMENT_ADMIN',
        1, 'abcd', 1, NULL, NULL, 1, 'usr_a', 1, 'usr_a', NULL, NULL, 'wsp_a');
";

fn node_key() -> PublicKey {
    SigningKey::from_seed(&[1; 32]).public().clone()
}

/// Creates a database as the program of `version` left it.
fn of_version(path: &Path, version: usize) {
    let mut connection = connect(Connection::open(path).unwrap()).unwrap();
    migrate(&mut connection, &MIGRATIONS[..1]).unwrap();
    connection.execute_batch(ROWS).unwrap();
    let key = serde_json::to_string(&node_key().jwk()).unwrap();
    connection.execute("INSERT INTO node VALUES ('nod_a', 'dpl_a', 'host', ?1, 1, NULL)", [key]).unwrap();
    migrate(&mut connection, &MIGRATIONS[..version]).unwrap();
}

#[test]
fn a_database_of_every_earlier_version_is_brought_to_the_newest() {
    for version in 1..=MIGRATIONS.len() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.db");
        of_version(&path, version);
        let store = Store::open(&path).unwrap();
        store
            .read(|connection| {
                let count = |query: &str| connection.query_row(query, [], |row| row.get::<_, u32>(0));
                assert_eq!(count("SELECT count(*) FROM pragma_foreign_key_check")?, 0, "{version}");
                assert_eq!(count("PRAGMA user_version")? as usize, MIGRATIONS.len(), "{version}");
                let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
                assert_eq!(whole, "ok", "{version}");
                // A direct-access token keeps its role version; a standard token follows the newest.
                let fixed = |token| {
                    let query = "SELECT role_version FROM token WHERE id = ?1";
                    connection.query_row(query, [token], |row| row.get::<_, Option<u32>>(0))
                };
                let kid: String = connection.query_row("SELECT kid FROM node", [], |row| row.get(0))?;
                assert_eq!(kid, node_key().kid().as_str(), "{version}");
                let loose = "SELECT count(*) FROM pragma_table_list
                             WHERE schema = 'main' AND type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite_%'";
                assert_eq!(count(loose)?, 0, "every table is STRICT");
                assert_eq!((fixed("tok_direct")?, fixed("tok_standard")?), (Some(1), None), "{version}");
                Ok(())
            })
            .unwrap();
        drop(store);
        Store::open(&path).unwrap();
    }
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.db");
    of_version(&path, MIGRATIONS.len());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", MIGRATIONS.len() + 1).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::Conflict { code: "database_too_new", .. })));
}

/// Writes `rows` rows of a page each, reads on two connections at once, and closes the database. Returns the files that are left.
fn files_after(rows: u32) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.db");
    let store = Store::open(&path).unwrap();
    store.note(|transaction| Ok(transaction.execute_batch("CREATE TABLE part (body BLOB) STRICT")?)).unwrap();
    let count = |connection: &Connection| -> Result<u32, Error> {
        Ok(connection.query_row("SELECT count(*) FROM part", [], |row| row.get(0))?)
    };
    for _ in 0..rows {
        let insert = "INSERT INTO part VALUES (zeroblob(4000))";
        store.note(|transaction| Ok(transaction.execute_batch(insert)?)).unwrap();
    }
    store.read(|_| store.read(count)).unwrap();
    drop(store);
    let mut files: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let copy = directory.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(count(&Connection::open(copy).unwrap()).unwrap(), rows, "a copy of the file is complete");
    files
}

#[test]
fn a_database_that_was_closed_is_one_file() {
    // With fewer pages than make the thread copy the log, and with more.
    for rows in [1, 1500] {
        assert_eq!(files_after(rows), ["control.db"], "{rows}");
    }
}
