#![allow(clippy::unwrap_used)]

use super::*;
use crate::dataplane::node::identity::mark_databases_made;
use crate::protocol::time::Time;

#[test]
fn a_database_that_was_made_and_is_gone_or_empty_is_no_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let inventory = Inventory::new(directory.path());
    let path = directory.path().join("a.db");
    inventory.check("a.db").unwrap();
    std::fs::write(&path, "x").unwrap();
    inventory.made("a.db").unwrap();
    inventory.check("a.db").unwrap();
    std::fs::write(&path, "").unwrap();
    assert!(matches!(inventory.check("a.db"), Err(InventoryError::Empty)));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(inventory.check("a.db"), Err(InventoryError::Missing)));
    inventory.forget("a.db").unwrap();
    inventory.check("a.db").unwrap();
}

#[test]
fn without_an_inventory_the_audit_log_tells_that_the_others_were_there() {
    let directory = tempfile::tempdir().unwrap();
    let inventory = Inventory::new(directory.path());
    std::fs::write(directory.path().join("audit.db"), "x").unwrap();
    for text in [None, Some(""), Some("{")] {
        if let Some(text) = text {
            std::fs::write(directory.path().join(FILE), text).unwrap();
        }
        assert!(matches!(inventory.check("revocations.db"), Err(InventoryError::Missing)), "{text:?}");
    }
}

#[test]
fn a_host_whose_identity_says_that_databases_were_made_has_had_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let (inventory, identity) = (Inventory::new(directory.path()), directory.path().join(IDENTITY_FILE));
    let unmarked = r#"{"nodeId":"nod_a","dataPlaneId":"dpl_a","issuer":"halligan.example"}"#;
    std::fs::write(&identity, unmarked).unwrap();
    assert!(DATABASES.iter().all(|name| !inventory.check(name).unwrap()));
    std::fs::remove_file(directory.path().join(FILE)).unwrap();
    mark_databases_made(&identity).unwrap();
    for name in DATABASES {
        assert!(matches!(inventory.check(name), Err(InventoryError::Missing)), "{name}");
    }
    // An inventory that can be read is believed: an operator may have accepted the loss.
    inventory.forget(REVOCATIONS).unwrap();
    inventory.check(REVOCATIONS).unwrap();
}

#[test]
fn an_audit_log_that_is_made_first_is_no_witness_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let inventory = Inventory::new(directory.path());
    inventory.check("audit.db").unwrap();
    std::fs::write(directory.path().join("audit.db"), "x").unwrap();
    inventory.made("audit.db").unwrap();
    inventory.check("revocations.db").unwrap();
}

#[test]
fn what_is_noted_of_a_database_says_nothing_about_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let inventory = Inventory::new(directory.path());
    let note = || {
        for name in DATABASES {
            inventory.made(name).unwrap();
        }
        inventory.note_events(7).unwrap();
        inventory.note_replica(true).unwrap();
        inventory.made(AUDIT).unwrap();
        assert_eq!((inventory.events().unwrap(), inventory.had_replica().unwrap()), (7, true));
    };
    note();
    for name in [AUDIT, REPLICA] {
        inventory.forget(name).unwrap();
    }
    assert_eq!((inventory.events().unwrap(), inventory.had_replica().unwrap()), (0, false));
    // As an operator who took the names out of the file.
    note();
    inventory.change(|noted| noted.databases.clear()).unwrap();
    for name in [AUDIT, REPLICA] {
        inventory.made(name).unwrap();
    }
    assert_eq!((inventory.events().unwrap(), inventory.had_replica().unwrap()), (0, false));
    // As a build wrote it that noted neither.
    let text = r#"{"databases":["audit.db"],"revocations":null,"ended_sessions":null}"#;
    std::fs::write(directory.path().join(FILE), text).unwrap();
    assert_eq!((inventory.events().unwrap(), inventory.had_replica().unwrap()), (0, false));
    inventory.check(AUDIT).unwrap_err();
}

#[test]
fn revocations_cover_what_was_noted_of_them_in_any_order_and_none_else_do() {
    let tokens: Vec<TokenId> = ["tok_a", "tok_b", "tok_c"].map(|id| id.parse().unwrap()).into();
    let noted = Extent::from_tokens(&tokens[..2]);
    assert!(Extent::from_tokens([&tokens[1], &tokens[0]]).covers(&noted));
    assert!(Extent::from_tokens(&tokens).covers(&noted));
    assert!(!Extent::from_tokens(&tokens[1..]).covers(&noted), "another token stands for one that was lost");
    assert!(!Extent::from_tokens(&tokens[..1]).covers(&noted));
    assert!(!Extent::default().covers(&noted));
}

#[test]
fn what_is_set_aside_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (path, now) = (directory.path().join("a.db"), Time::from_unix(7));
    let asides: Vec<_> = (0..3)
        .map(|number: u32| {
            std::fs::write(&path, number.to_string()).unwrap();
            std::fs::write(directory.path().join("a.db-wal"), number.to_string()).unwrap();
            set_aside(&path, now).unwrap()
        })
        .collect();
    for (number, aside) in asides.iter().enumerate() {
        assert_eq!(std::fs::read_to_string(aside).unwrap(), number.to_string());
        let beside = aside.with_file_name(format!("{}-wal", aside.file_name().unwrap().to_str().unwrap()));
        assert_eq!(std::fs::read_to_string(beside).unwrap(), number.to_string());
    }
    assert!(!path.exists());
}
