//! Opens the databases of a node. A database that cannot be trusted is moved aside, never deleted, and replaced by a new one.

use std::path::Path;
use std::sync::Arc;

use super::{StartError, loss};
use crate::dataplane::audit::{AuditError, AuditLog, Options};
use crate::dataplane::authorize::Authorizer;
use crate::dataplane::config::Config;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::decide::staleness::Staleness;
use crate::dataplane::glass::{Glass, GlassError, GlassTask};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::identity::Identity;
use crate::dataplane::node::inventory::{AUDIT, Inventory, REVOCATIONS, set_aside};
use crate::dataplane::node::state::Live;
use crate::dataplane::replica::store::{ReplicaStore, StoreError};
use crate::dataplane::revocations::LedgerError;
use crate::dataplane::uplink::outage::OutageError;
use crate::dataplane::uplink::reconcile::Reconciler;
use crate::platform::clock::Clock;
use crate::platform::database::{database_error, is_damaged, is_disk_fault};
use crate::protocol::key::SigningKey;
use crate::protocol::keyset::RootSet;
use crate::protocol::time::Time;

/// Opens the replica and puts it in force if it can be verified. Otherwise its database is moved aside: the node has no
/// replica until its control plane or an import provides one.
pub(super) fn open_replica(
    path: &Path,
    identity: &Identity,
    pinned: &RootSet,
    staleness: &Staleness,
    live: &Live,
    now: Time,
) -> Result<ReplicaStore, StartError> {
    let open = || ReplicaStore::open(path, identity.data_plane_id.clone(), pinned.clone());
    let loaded = open().and_then(|store| {
        let (floor, age) = (store.floor()?, store.head_age()?);
        let replica = match store.index() {
            // The database is not damaged: its key was removed or its issuer replaced, and the next head will replace it.
            Err(dropped @ StoreError::Superseded(_)) => {
                live.alarms.raise(AlarmKind::Refused, &dropped.to_string(), now);
                None
            }
            loaded => loaded?,
        };
        Ok((store, replica, floor, age))
    });
    match loaded {
        Ok((store, replica, floor, age)) => {
            live.raise_floor(floor);
            live.change_local(|local| local.accepted = age);
            if let Some(replica) = replica {
                live.persisted(replica.head.head().version, now);
                live.replace(|absent| Snapshot::from_verified(replica, staleness.clone(), Some(absent)));
                live.alarm_unreadable(None, now);
            } else if store.is_emptied()? {
                // The database stays: it may still pin what this host has proved, such as the time floor.
                let what = "the replica's database holds no replica, though this host had one: every request is denied until \
                            the control plane or an import gives another";
                live.alarms.raise(AlarmKind::Damaged, what, now);
            }
            Ok(store)
        }
        // A full or unreachable disk is no reason to replace the database.
        Err(StoreError::Database(error)) if !is_damaged(&error) => {
            Err(name_file(path, StoreError::Database(error).into()))
        }
        Err(StoreError::Unfit(unfit)) if !unfit.is_lost() => Err(StoreError::Unfit(unfit).into()),
        Err(error) => {
            give_up(path, live, now, "replica", &error)?;
            Ok(open()?)
        }
    }
}

/// Opens the audit log. One that cannot be read is moved aside, never deleted, and replaced by a new one.
pub(super) fn open_audit(
    path: &Path,
    config: &Config,
    identity: &Identity,
    key: &Arc<SigningKey>,
    clock: &Clock,
    live: &Arc<Live>,
) -> Result<AuditLog, StartError> {
    let open = || {
        let (node, key, clock) = (identity.node_id.clone(), Arc::clone(key), Arc::clone(clock));
        let live = Arc::clone(live);
        let options = Options {
            capacity: config.audit.max_queue,
            when_full: config.audit.when_full,
            retention: config.audit.retention(),
            alarm: Arc::new(move |what, now| live.alarms.raise(AlarmKind::AuditFailing, what, now)),
        };
        AuditLog::open_with(path, node, key, clock, options)
    };
    or_begin_anew(path, live, clock(), "audit log", open, unreadable)
}

/// Opens the local revocations and the outages. Lost revocations stop the start, unless an operator accepted the loss; lost
/// outages concern only the past, and their database is replaced.
pub(super) async fn open_reconciler(
    state: &Path,
    audit: &AuditLog,
    prover: &Arc<Prover>,
    live: &Arc<Live>,
    clock: &Clock,
) -> Result<Arc<Reconciler>, StartError> {
    let open = || {
        let open = || Reconciler::open(state, Arc::clone(prover), live, clock);
        let lost = |error: &OutageError| match error {
            OutageError::Database(error) => is_damaged(error),
            OutageError::Unfit(unfit) => unfit.is_lost(),
            OutageError::Lost { .. } => true,
            _ => false,
        };
        or_begin_anew(&state.join("outages.db"), live, clock(), "record of outages", open, lost)
    };
    match open() {
        Err(StartError::Recovery(OutageError::Revocations(lost))) if unreadable_revocations(&lost) => {
            loss::go_on_after(lost, state, audit, (prover, live, clock)).await?;
            open()
        }
        opened => {
            // The acceptance stays if the database cannot be opened, since revocations may still turn out to be lost.
            if opened.is_ok() {
                loss::withdraw(state);
            }
            opened
        }
    }
}

/// Returns true if revocations are lost, as opposed to temporarily unreadable.
fn unreadable_revocations(error: &LedgerError) -> bool {
    match error {
        LedgerError::Database(error) => is_damaged(error),
        LedgerError::Unfit(unfit) => unfit.is_lost(),
        LedgerError::Unreadable(_) | LedgerError::Lost { .. } | LedgerError::Untold(_) => true,
        _ => false,
    }
}

/// Opens the broken glass and puts it in force. If its database is lost, all glass is whole again.
pub(super) fn open_glass_task(
    path: &Path,
    config: &Config,
    authorizer: &Authorizer,
) -> Result<GlassTask, StartError> {
    let Authorizer { live, audit, node, clock, .. } = authorizer;
    let (now, longest) = (clock(), i64::from(config.glass.max_break_seconds));
    let open = || Glass::open(path, Arc::clone(live), longest, live.now(now));
    let lost = |error: &GlassError| match error {
        GlassError::Database(error) => is_damaged(error),
        GlassError::Unfit(unfit) => unfit.is_lost(),
        _ => false,
    };
    Ok(GlassTask {
        glass: Arc::new(or_begin_anew(path, live, now, "glass", open, lost)?),
        live: Arc::clone(live),
        audit: Arc::clone(audit),
        node: node.clone(),
        clock: Arc::clone(clock),
        limits: config.glass.limits(),
    })
}

/// Opens a database. If `lost` holds for the error, moves it aside with an alarm and creates a new one.
fn or_begin_anew<T, E: std::fmt::Display + Into<StartError>>(
    path: &Path,
    live: &Live,
    now: Time,
    what: &str,
    open: impl Fn() -> Result<T, E>,
    lost: impl FnOnce(&E) -> bool,
) -> Result<T, StartError> {
    match open() {
        Err(error) if lost(&error) => {
            give_up(path, live, now, what, &error)?;
            open().map_err(|error| name_file(path, error.into()))
        }
        opened => opened.map_err(|error| name_file(path, error.into())),
    }
}

/// Names the database at `path` in an error of its disk, for which SQLite has a few words only.
fn name_file(path: &Path, error: StartError) -> StartError {
    // The revocations are opened together with the outages, and with a look at the audit log.
    let path = match &error {
        StartError::Recovery(OutageError::Revocations(_)) => path.with_file_name(REVOCATIONS),
        StartError::Recovery(OutageError::Audit(_)) => path.with_file_name(AUDIT),
        _ => path.to_owned(),
    };
    match database_error(&error) {
        Some(fault @ rusqlite::Error::SqliteFailure(code, what)) if is_disk_fault(fault) => {
            let source = rusqlite::Error::SqliteFailure(*code, what.clone());
            StartError::Disk { path, source }
        }
        _ => error,
    }
}

/// Moves a lost database aside with an alarm, so that a new one can be created. The rest of it stays on the disk.
fn give_up(
    path: &Path,
    live: &Live,
    now: Time,
    what: &str,
    error: &dyn std::fmt::Display,
) -> Result<(), StartError> {
    let failed = |source| StartError::State { path: path.into(), source };
    let left = path.exists();
    let aside = set_aside(path, now).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Inventory::beside(path).forget(&name).map_err(|error| failed(std::io::Error::other(error)))?;
    let moved =
        if left { format!("what is left was moved to {}, and ", aside.display()) } else { String::new() };
    let what = format!("{error}: {moved}another {what} was begun");
    live.alarms.raise(AlarmKind::Damaged, &what, now);
    Ok(())
}

/// Returns true if the log cannot be continued, as opposed to temporarily unwritable.
fn unreadable(error: &AuditError) -> bool {
    match error {
        AuditError::Database(_) | AuditError::Block(_) => error.is_damage(),
        AuditError::Unfit(unfit) => unfit.is_lost(),
        AuditError::Tampered(_) => true,
        AuditError::TooLong | AuditError::Checkpoint(_) | AuditError::Thread(_) => false,
    }
}
