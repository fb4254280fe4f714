//! Readiness: the faults that keep this control plane from its work. `/readyz` and the metrics report the same.

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::nodes::ahead::NodesAhead;
use crate::protocol::ends::due;

/// Fault that an operator must know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// True if the control plane cannot work until this is repaired. `/readyz` then answers 503.
    pub blocks: bool,
    /// Fault and remedy in one sentence. It names no object of an organization, since anybody may read it.
    pub detail: String,
}

impl ControlPlane {
    /// Lists the present faults; empty if all is well.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Err(why) = self.writable() {
            let detail = format!(
                "the database cannot be written: {why}; nothing can be changed until it can: free space on the disk of the state directory, and check its permissions"
            );
            findings.push(Finding { blocks: true, detail });
        }
        let now = self.now();
        findings.extend(due(self.own_ends(), now).into_iter().map(|end| Finding {
            // Nodes reject everything that is signed under an expired keyset.
            blocks: end.voids_all(now),
            detail: end.sentence(now),
        }));
        // A database that cannot be read is reported below.
        if let Ok(Some(fault)) = self.environment_key_fault() {
            findings.push(Finding { blocks: false, detail: fault.to_string() });
        }
        // Only the metric names the data plane, because anybody may read this.
        let ahead = self.nodes_ahead().unwrap_or_else(|error| {
            let detail = format!(
                "the database cannot be read: {error}; check the disk of the state directory and its permissions, or put the database back from a backup"
            );
            findings.push(Finding { blocks: true, detail });
            Vec::new()
        });
        for NodesAhead { nodes, highest, .. } in ahead {
            let detail = format!(
                "{nodes} node(s) hold a later version of a replica than is published, and refuse what is published; if the database was restored from a backup, run `halligan-control recover --above {highest}`"
            );
            findings.push(Finding { blocks: false, detail });
        }
        findings
    }

    /// Tries to write to the database, or returns the result of the last try if that is recent.
    pub(in crate::controlplane) fn writable(&self) -> Result<(), String> {
        self.probe.result(|| self.store.probe().map_err(|error: Error| error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::api::page::Page;
    use crate::api::workspace::{NewWorkspace, WorkspaceFilter};
    use crate::controlplane::signing::Signing;
    use crate::controlplane::store::Store;
    use crate::protocol::time::Time;

    #[test]
    fn a_database_that_cannot_be_written_is_told_and_denies_no_read() {
        let (directory, now) = (tempfile::tempdir().unwrap(), Time::from_unix(1_800_000_000));
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        Signing::create(directory.path(), now, &mut rng).unwrap();
        let signing = Signing::load(directory.path()).unwrap();
        let (store, issuer) = (Store::in_memory().unwrap(), "https://control.example".to_owned());
        let control = ControlPlane::new(store, signing, issuer, Arc::new(move || now), Box::new(rng));
        let owner = control.bootstrap("Acme", "owner@acme.example").unwrap().token;
        let new = serde_json::from_value(serde_json::json!({
            "name": "reader", "type": "ORGANIZATION", "role": "ORGANIZATION_OWNER",
        }));
        let actor = control.authenticate(owner.as_bytes()).unwrap();
        let made = control.create_token(&actor, &actor.organization, new.unwrap(), None).unwrap();
        let token = made.token.unwrap();
        assert_eq!(control.findings(), []);

        control.store.refuse_writes(true);
        control.probe.forget();
        let findings = control.findings();
        assert!(findings.len() == 1 && findings[0].blocks, "{findings:?}");
        let reader = control.authenticate(token.as_bytes()).unwrap();
        let page = Page { offset: 0, limit: 20, cursor: None };
        let listed =
            control.list_workspaces(&reader, &reader.organization, &WorkspaceFilter::default(), page);
        assert!(listed.is_ok());
        assert_eq!(control.bookkeeping.lost.get(), 1);
        let new = NewWorkspace { name: "data".into(), description: String::new() };
        let refused = control.create_workspace(&reader, &reader.organization, &new).unwrap_err();
        assert_eq!((refused.status(), refused.code()), (503, "store_unavailable"));

        control.store.refuse_writes(false);
        control.probe.forget();
        assert_eq!(control.findings(), []);
    }
}
