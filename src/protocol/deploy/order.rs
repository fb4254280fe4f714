//! Orders the deploys of a deployment: which one is in force on a host.
//!
//! A host's deploy counts only on top of the signed deploy that its node held when it was made. The next signed deploy ends
//! all of them, whether it adopts one or replaces it.

use std::cmp::Ordering;

use super::host::HostDeploy;
use super::signed::Deploy;
use crate::protocol::id::DeployId;

/// Deploy that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce<'a> {
    /// The control plane's.
    Signed(&'a Deploy),
    /// A host's.
    Host(&'a HostDeploy),
}

impl InForce<'_> {
    /// Returns the id of the deploy.
    #[must_use]
    pub fn deploy(&self) -> &DeployId {
        match self {
            Self::Signed(deploy) => &deploy.deploy,
            Self::Host(deploy) => &deploy.deploy,
        }
    }

    /// Returns the SHA-256 of the archive.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        match self {
            Self::Signed(deploy) => &deploy.digest,
            Self::Host(deploy) => &deploy.digest,
        }
    }

    /// Returns the size of the archive, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Signed(deploy) => deploy.size,
            Self::Host(deploy) => deploy.size,
        }
    }
}

/// Compares two host deploys of one deployment and `base`. The greater one is in force. Nodes that took an archive each
/// while they did not reach each other come to the same one.
///
/// ```
/// use halligan::protocol::deploy::host::HostDeploy;
/// use halligan::protocol::deploy::order::compare;
/// # use halligan::protocol::time::Time;
///
/// # let deploy = HostDeploy {
/// #     iss: "nod_a".parse().unwrap(),
/// #     aud: "dpl_a".parse().unwrap(),
/// #     sub: "dep_a".parse().unwrap(),
/// #     deploy: "one".parse().unwrap(),
/// #     base: 0,
/// #     seq: 1,
/// #     iat: Time::from_unix(1_800_000_000),
/// #     digest: [0; 32],
/// #     size: 1,
/// #     token: "tok_a".parse().unwrap(),
/// #     event: "evt_1-1".into(),
/// # };
/// let next = HostDeploy { seq: 2, deploy: "two".parse().unwrap(), ..deploy.clone() };
/// assert!(compare(&deploy, &next).is_lt());
/// ```
#[must_use]
pub fn compare(a: &HostDeploy, b: &HostDeploy) -> Ordering {
    (a.seq, a.iat, &a.deploy).cmp(&(b.seq, b.iat, &b.deploy))
}

/// Returns the deploy in force, of the signed deploy held and the host deploys known. All are of one deployment.
///
/// ```
/// use halligan::protocol::deploy::host::HostDeploy;
/// use halligan::protocol::deploy::order::{InForce, in_force};
/// # use halligan::protocol::time::Time;
///
/// # let deploy = HostDeploy {
/// #     iss: "nod_a".parse().unwrap(),
/// #     aud: "dpl_a".parse().unwrap(),
/// #     sub: "dep_a".parse().unwrap(),
/// #     deploy: "one".parse().unwrap(),
/// #     base: 0,
/// #     seq: 1,
/// #     iat: Time::from_unix(1_800_000_000),
/// #     digest: [0; 32],
/// #     size: 1,
/// #     token: "tok_a".parse().unwrap(),
/// #     event: "evt_1-1".into(),
/// # };
/// // No signed deploy is held: a host's deploy counts if its node held none either.
/// assert_eq!(in_force(None, [&deploy]), Some(InForce::Host(&deploy)));
/// let on_another = HostDeploy { base: 7, ..deploy.clone() };
/// assert_eq!(in_force(None, [&on_another]), None);
/// ```
#[must_use]
pub fn in_force<'a>(
    signed: Option<&'a Deploy>,
    hosts: impl IntoIterator<Item = &'a HostDeploy>,
) -> Option<InForce<'a>> {
    let base = signed.map_or(0, |signed| signed.version);
    let newest = hosts.into_iter().filter(|host| host.base == base).max_by(|a, b| compare(a, b));
    newest.map(InForce::Host).or(signed.map(InForce::Signed))
}

/// Returns `base` and `seq` of the next host deploy on top of these.
///
/// ```
/// use halligan::protocol::deploy::host::HostDeploy;
/// use halligan::protocol::deploy::order::next_place;
/// # use halligan::protocol::time::Time;
///
/// # let deploy = HostDeploy {
/// #     iss: "nod_a".parse().unwrap(),
/// #     aud: "dpl_a".parse().unwrap(),
/// #     sub: "dep_a".parse().unwrap(),
/// #     deploy: "one".parse().unwrap(),
/// #     base: 0,
/// #     seq: 1,
/// #     iat: Time::from_unix(1_800_000_000),
/// #     digest: [0; 32],
/// #     size: 1,
/// #     token: "tok_a".parse().unwrap(),
/// #     event: "evt_1-1".into(),
/// # };
/// assert_eq!(next_place(None, []), (0, 1));
/// assert_eq!(next_place(None, [&deploy]), (0, 2));
/// ```
#[must_use]
pub fn next_place<'a>(
    signed: Option<&'a Deploy>,
    hosts: impl IntoIterator<Item = &'a HostDeploy>,
) -> (u64, u64) {
    let base = signed.map_or(0, |signed| signed.version);
    match in_force(signed, hosts) {
        Some(InForce::Host(host)) => (base, host.seq.saturating_add(1)),
        _ => (base, 1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::time::Time;

    fn signed(version: u64) -> Deploy {
        Deploy {
            iss: "https://control.example".into(),
            aud: "dpl_a".parse().unwrap(),
            sub: "dep_a".parse().unwrap(),
            deploy: "signed".parse().unwrap(),
            version,
            iat: Time::from_unix(0),
            digest: [1; 32],
            size: 1,
        }
    }

    fn host(id: &str, base: u64, seq: u64, iat: i64) -> HostDeploy {
        HostDeploy {
            iss: "nod_a".parse().unwrap(),
            aud: "dpl_a".parse().unwrap(),
            sub: "dep_a".parse().unwrap(),
            deploy: id.parse().unwrap(),
            base,
            seq,
            iat: Time::from_unix(iat),
            digest: [2; 32],
            size: 2,
            token: "tok_a".parse().unwrap(),
            event: "evt_1-1".into(),
        }
    }

    /// Returns the id of the deploy in force, and the place of the next one.
    fn id(version: Option<u64>, hosts: &[HostDeploy]) -> (String, (u64, u64)) {
        let signed = version.map(signed);
        let found = in_force(signed.as_ref(), hosts);
        let id = found.map_or_else(String::new, |found| found.deploy().to_string());
        (id, next_place(signed.as_ref(), hosts))
    }

    #[test]
    fn a_host_deploy_counts_on_top_of_what_its_node_held_and_of_nothing_else() {
        let is = |id: &str, place| (id.to_owned(), place);
        assert_eq!(id(None, &[]), is("", (0, 1)));
        assert_eq!(id(Some(5), &[]), is("signed", (5, 1)));
        assert_eq!(id(None, &[host("a", 0, 1, 9)]), is("a", (0, 2)));
        assert_eq!(id(Some(5), &[host("a", 5, 1, 9)]), is("a", (5, 2)));
        // A later signed deploy ends it, and so does an unknown one before it.
        for base in [0, 4, 6] {
            assert_eq!(id(Some(5), &[host("a", base, 9, 9)]), is("signed", (5, 1)), "{base}");
        }
        // The number counts first, then the time, then the id.
        assert_eq!(id(None, &[host("a", 0, 2, 1), host("b", 0, 1, 9)]), is("a", (0, 3)));
        assert_eq!(id(None, &[host("a", 0, 2, 1), host("b", 0, 2, 9)]), is("b", (0, 3)));
        assert_eq!(id(None, &[host("b", 0, 2, 9), host("a", 0, 2, 9)]), is("b", (0, 3)));
    }

    fn hosts() -> impl Strategy<Value = Vec<HostDeploy>> {
        prop::collection::vec(("[a-c]{1,2}", 0..3_u64, 1..4_u64, 0..3_i64), 0..8)
            .prop_map(|all| all.into_iter().map(|(id, base, seq, iat)| host(&id, base, seq, iat)).collect())
    }

    proptest! {
        #[test]
        fn nodes_that_know_the_same_agree_in_whichever_order_they_learned_it(
            version in prop::option::of(1..3_u64),
            (hosts, shuffled) in hosts().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        ) {
            prop_assert_eq!(id(version, &hosts), id(version, &shuffled));
        }

        #[test]
        fn the_next_host_deploy_is_in_force(version in prop::option::of(1..3_u64), mut hosts in hosts()) {
            let signed = version.map(signed);
            let (base, seq) = next_place(signed.as_ref(), &hosts);
            hosts.push(host("next", base, seq, -1));
            prop_assert_eq!(id(version, &hosts).0, "next");
        }

        #[test]
        fn the_next_signed_deploy_ends_all_host_deploys_before_it(version in 3..9_u64, hosts in hosts()) {
            prop_assert_eq!(id(Some(version), &hosts).0, "signed");
        }
    }
}
