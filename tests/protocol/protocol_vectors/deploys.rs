//! deploys.json, host_deploys.json, deploy_orders.json and archives.json: the code that a deployment runs, and the
//! content of archives.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use halligan::protocol::deploy::archive::{ArchiveError, Entry, read_archive};
use halligan::protocol::deploy::host::{HostDeploy, HostDeployError, SignedHostDeploy, sign_host_deploy};
use halligan::protocol::deploy::order::{in_force, next_place};
use halligan::protocol::deploy::signed::{Deploy, DeployError, SignedDeploy, sign_deploy};
use halligan::protocol::deploy::tree::TreeFault;
use halligan::protocol::jws::{JwsError, Typ, sign};
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::nodes::{key, nodes, signers};
use super::{Vectors, base64, bytes, changed, keyset, payload, read, replaced, text};
use crate::world::{DATA_PLANE, DEPLOYMENT, ISSUER, T0, World};

fn jws(error: &JwsError) -> &'static str {
    match error {
        JwsError::KeyUnknown => "key_unknown",
        JwsError::SignatureInvalid => "signature_invalid",
        _ => "malformed",
    }
}

fn verify(common: &Value, case: &Value) -> String {
    let verified = SignedDeploy::verify(text(case, "deploy"), &keyset(common), &read(common, "data_plane"));
    let answer = match &verified {
        Ok(_) => "ok",
        Err(DeployError::Issuer(_)) => "issuer",
        Err(DeployError::Audience(_)) => "audience",
        Err(DeployError::Size(_)) => "size",
        Err(DeployError::Jws(error)) => jws(error),
    };
    answer.into()
}

fn deploy() -> Deploy {
    Deploy {
        iss: ISSUER.into(),
        aud: DATA_PLANE.parse().unwrap(),
        sub: DEPLOYMENT.parse().unwrap(),
        deploy: "c0123456789abcdefghijklmn".parse().unwrap(),
        version: 7,
        iat: T0,
        digest: [5; 32],
        size: 1000,
    }
}

#[test]
fn deploys() {
    let world = World::new();
    let about = "Is `deploy` a signed deploy for `data_plane`? The keyset is believed. A version that is held plays no part.";
    let mut vectors = Vectors::new("deploys.json", about, verify)
        .with("keyset", json!(world.keyset))
        .with("data_plane", json!(DATA_PLANE));
    let mut case = |name: &str, deploy: String, expected: &str, why: &str| {
        vectors.case(name, json!({ "deploy": deploy }), expected, why);
    };
    let good = sign_deploy(&deploy(), &world.replica);
    let claims = payload(&good);
    let signed = |claims: &str| sign(Typ::Deploy, claims.as_bytes(), &world.replica);
    let with = |from: &str, to: &str| signed(&replaced(&claims, from, to));
    case("as it was made", good.clone(), "ok", "");
    case("the last version there is", with(r#""version":7"#, r#""version":9007199254740991"#), "ok", "");
    case("of the largest archive", with(r#""size":1000"#, r#""size":1073741824"#), "ok", "");
    case("a time far ahead", with("1800000000", "9000000000"), "ok", "iat is not compared");
    case("for another data plane", with(r#""dpl_a""#, r#""dpl_b""#), "audience", "aud is not the data plane");
    case("of any issuer", with(ISSUER, "https://other.example"), "ok", "the keyset names no issuer");
    case(
        "of an archive that is too large",
        with(r#""size":1000"#, r#""size":1073741825"#),
        "size",
        "1 GiB is the most",
    );
    for (name, from, to, why) in [
        ("version 0", r#""version":7"#, r#""version":0"#, "versions begin at 1"),
        ("version 2^53", r#""version":7"#, r#""version":9007199254740992"#, "versions end below 2^53"),
        ("a size that is text", r#""size":1000"#, r#""size":"1000""#, "size is a number"),
        ("an unknown claim", "{", r#"{"x":1,"#, "the claims are a closed object"),
        ("without a deploy", r#""deploy":"c0123456789abcdefghijklmn","#, "", "deploy is required"),
        ("a deploy that is no id", "c0123456789abcdefghijklmn", "../c0", "deploy is an id"),
        ("a digest of 31 bytes", &base64([5; 32]), &base64([5; 31]), "a hash has 32 bytes"),
    ] {
        case(name, with(from, to), "malformed", why);
    }
    let head = sign(Typ::ReplicaHead, claims.as_bytes(), &world.replica);
    case("a head", head, "malformed", "typ is of another kind");
    let host = sign(Typ::HostDeploy, claims.as_bytes(), &world.replica);
    case("a host's deploy", host, "malformed", "typ is of another kind");
    let long = with(ISSUER, &format!("https://{}", "x".repeat(4096)));
    case("longer than 4096 bytes", long, "malformed", "the bound is 4096 bytes");
    let token = sign_deploy(&deploy(), &world.token);
    case("signed with a token key", token, "key_unknown", "only replica keys sign it");
    case(
        "a bit of the signature changed",
        changed(&good, 10),
        "signature_invalid",
        "the signature does not hold",
    );
    vectors.hold();
}

fn admit(common: &Value, case: &Value) -> String {
    let text = text(case, "host_deploy");
    let admitted = SignedHostDeploy::admit(text, &signers(common), &read(common, "data_plane"));
    let answer = match &admitted {
        Ok(_) => "ok",
        Err(HostDeployError::Issuer(_)) => "issuer",
        Err(HostDeployError::Audience(_)) => "audience",
        Err(HostDeployError::Size(_)) => "size",
        Err(HostDeployError::Retired { .. }) => "retired",
        Err(HostDeployError::Jws(error)) => jws(error),
    };
    answer.into()
}

fn host_deploy() -> HostDeploy {
    HostDeploy {
        iss: "nod_a".parse().unwrap(),
        aud: DATA_PLANE.parse().unwrap(),
        sub: DEPLOYMENT.parse().unwrap(),
        deploy: "c0123456789abcdefghijklmn".parse().unwrap(),
        base: 7,
        seq: 1,
        iat: T0,
        digest: [5; 32],
        size: 1000,
        token: "tok_a".parse().unwrap(),
        event: "evt_1-2".into(),
    }
}

#[test]
fn host_deploys() {
    let about = "Is `host_deploy` admitted as a host's deploy on `data_plane` by whoever holds the node records `nodes`, and did not admit it before?";
    let mut vectors = Vectors::new("host_deploys.json", about, admit)
        .with("nodes", json!(nodes()))
        .with("data_plane", json!(DATA_PLANE));
    let mut case = |name: &str, deploy: String, expected: &str, why: &str| {
        vectors.case(name, json!({ "host_deploy": deploy }), expected, why);
    };
    let good = sign_host_deploy(&host_deploy(), &key(21));
    let claims = payload(&good);
    let signed = |claims: &str, seed| sign(Typ::HostDeploy, claims.as_bytes(), &key(seed));
    let with = |from: &str, to: &str| signed(&replaced(&claims, from, to), 21);
    let of_b = |iat: i64| {
        let claims = replaced(&replaced(&claims, "nod_a", "nod_b"), "1800000000", &iat.to_string());
        signed(&claims, 22)
    };
    case("as a node made it", good.clone(), "ok", "");
    case("on top of no signed deploy", with(r#""base":7"#, r#""base":0"#), "ok", "base may be 0");
    case(
        "by the other node with the same key",
        with("nod_a", "nod_c"),
        "ok",
        "iss says which of two nodes with one key",
    );
    case("of the largest archive", with(r#""size":1000"#, r#""size":1073741824"#), "ok", "");
    case("signed the second before its node was retired", of_b(T0.unix() + 59), "ok", "");
    case(
        "signed the second its node was retired",
        of_b(T0.unix() + 60),
        "retired",
        "iat is not before retiredAt",
    );
    case("the key of another node", signed(&claims, 22), "issuer", "the key is not that of iss");
    case("a node nobody knows", with("nod_a", "nod_x"), "issuer", "iss has no record");
    case("for another data plane", with(r#""dpl_a""#, r#""dpl_b""#), "audience", "aud is not the data plane");
    case(
        "of an archive that is too large",
        with(r#""size":1000"#, r#""size":1073741825"#),
        "size",
        "1 GiB is the most",
    );
    for (name, from, to, why) in [
        ("seq 0", r#""seq":1"#, r#""seq":0"#, "seq begins at 1"),
        ("a base below 0", r#""base":7"#, r#""base":-1"#, "base is a version, or 0"),
        ("an unknown claim", "{", r#"{"role":"DEPLOYMENT_ADMIN@1","#, "the claims are a closed object"),
        ("an event that is no id", "evt_1-2", "evt 1", "event is an id"),
        ("a token that is no id", "tok_a", "", "token is an id"),
        ("without a base", r#""base":7,"#, "", "base is required"),
    ] {
        case(name, with(from, to), "malformed", why);
    }
    let signed_deploy = sign(Typ::Deploy, claims.as_bytes(), &key(21));
    case("a signed deploy", signed_deploy, "malformed", "typ is of another kind");
    case("the key of nobody", signed(&claims, 23), "key_unknown", "its kid is the key of no node");
    case(
        "a bit of the signature changed",
        changed(&good, 10),
        "signature_invalid",
        "the signature does not hold",
    );
    vectors.hold();
}

/// Returns the deploy in force, and `base` and `seq` of the next host's deploy.
fn order(_: &Value, case: &Value) -> String {
    let signed: Option<Deploy> = read(case, "signed");
    let hosts: Vec<HostDeploy> = read(case, "hosts");
    let place = next_place(signed.as_ref(), &hosts);
    let found = in_force(signed.as_ref(), &hosts);
    let found = found.map_or_else(|| "none".to_owned(), |found| found.deploy().to_string());
    let got = format!("{found}, then {} {}", place.0, place.1);
    if got == text(case, "in_force") { "ok".into() } else { got }
}

#[test]
fn deploy_orders() {
    let about = "Which deploy is in force of the signed deploy `signed` and the hosts' deploys `hosts`, all of one deployment and verified? \
                 `in_force` names it, then `base` and `seq` of the next host's deploy.";
    let mut vectors = Vectors::new("deploy_orders.json", about, order);
    let host = |id: &str, base, seq, iat| HostDeploy {
        deploy: id.parse().unwrap(),
        base,
        seq,
        iat: T0.plus(iat),
        ..host_deploy()
    };
    let signed = Deploy { deploy: "signed".parse().unwrap(), ..deploy() };
    let mut case =
        |name: &str, signed: Option<&Deploy>, hosts: Vec<HostDeploy>, in_force: &str, why: &str| {
            vectors.case(name, json!({ "signed": signed, "hosts": hosts, "in_force": in_force }), "ok", why);
        };
    let some = Some(&signed);
    case("nothing", None, vec![], "none, then 0 1", "");
    case("a signed deploy", some, vec![], "signed, then 7 1", "");
    case("a host's deploy alone", None, vec![host("a", 0, 1, 0)], "a, then 0 2", "base 0 is that of none");
    case(
        "a host's deploy on top",
        some,
        vec![host("a", 7, 1, 0)],
        "a, then 7 2",
        "its base is the version held",
    );
    let before = vec![host("a", 6, 9, 0), host("b", 0, 9, 0)];
    case("hosts' deploys on earlier ones", some, before, "signed, then 7 1", "a higher version ends them");
    let after = vec![host("a", 8, 1, 0)];
    case("a host's deploy on a later one", some, after, "signed, then 7 1", "its base is not held here");
    let numbers = vec![host("a", 7, 2, 0), host("b", 7, 1, 9)];
    case("a higher number", some, numbers, "a, then 7 3", "seq counts first");
    let times = vec![host("b", 7, 2, 0), host("a", 7, 2, 9)];
    case("the same number, later", some, times, "a, then 7 3", "then iat");
    let ids = vec![host("a", 7, 2, 0), host("B", 7, 2, 0), host("b", 7, 2, 0)];
    case("the same number and time", some, ids, "b, then 7 3", "then deploy, byte for byte");
    vectors.hold();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn entry(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = header(kind, name, content.len() as u64);
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar
}

fn header(kind: u8, name: &str, size: u64) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn unpack(_: &Value, case: &Value) -> String {
    let mut found = Vec::new();
    let read = read_archive(&*bytes(case, "archive"), |entry| {
        found.push(match entry {
            Entry::Directory { path } => json!([path, null]),
            Entry::File { path, content, .. } => {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                json!([path, String::from_utf8_lossy(&bytes)])
            }
        });
        Ok(())
    });
    let answer = match read {
        Ok(_) if json!(found) == case["entries"] => "ok",
        Ok(_) => "other entries",
        Err(ArchiveError::Truncated) => "truncated",
        Err(ArchiveError::Gzip) => "gzip",
        Err(ArchiveError::Trailing) => "trailing",
        Err(ArchiveError::Entry { fault: TreeFault::Link | TreeFault::Kind, .. }) => "kind",
        Err(ArchiveError::Entry { fault: TreeFault::Duplicate, .. }) => "twice",
        Err(ArchiveError::Entry { fault: TreeFault::Many | TreeFault::Large, .. }) => "too_much",
        Err(ArchiveError::Entry { .. }) => "path",
        Err(_) => "tar",
    };
    answer.into()
}

#[test]
fn archives() {
    let about = "Which files and directories has the archive `archive` (base64url)? `entries` has the path of each and the text of a file, in the order in \
                 which they are made.";
    let mut vectors = Vectors::new("archives.json", about, unpack);
    let end = [0; 1024];
    let one = entry(b'0', "a.py", b"x = 1\n");
    let mut case = |name: &str, archive: Vec<u8>, entries: Value, expected: &str, why: &str| {
        let input = json!({ "archive": base64(archive), "entries": entries });
        vectors.case(name, input, expected, why);
    };
    let made = |parts: &[&[u8]]| gzip(&[&parts.concat()[..], &end].concat());
    let a = json!([["a.py", "x = 1\n"]]);
    case("one file", made(&[&one]), a.clone(), "ok", "");
    case("no entry", made(&[]), json!([]), "ok", "");
    let dotted = made(&[&entry(b'5', "./", b""), &entry(b'0', "./a.py", b"x = 1\n")]);
    case("as `tar -C folder .` writes it", dotted, a.clone(), "ok", "one leading ./ is no part of a path");
    let nested = made(&[&entry(b'0', "d/e/a", b"1"), &entry(b'5', "d/", b""), &entry(b'0', "d/b", b"2")]);
    let entries = json!([["d", null], ["d/e", null], ["d/e/a", "1"], ["d/b", "2"]]);
    case("a directory after what is in it", nested, entries, "ok", "its own entry may follow");
    let pax = entry(b'x', "p", b"17 path=long/nm\n");
    let bad_pax = made(&[&pax, &one]);
    case("a pax record whose length is wrong", bad_pax, json!([]), "tar", "a record ends with a line feed");
    let pax = entry(b'x', "p", b"16 path=long/nm\n13 mtime=1.5\n");
    case(
        "a path of a pax header",
        made(&[&pax, &one]),
        json!([["long", null], ["long/nm", "x = 1\n"]]),
        "ok",
        "",
    );
    let long = entry(b'L', "././@LongLink", b"long/nm\0");
    case("a GNU long name", made(&[&long, &one]), json!([["long", null], ["long/nm", "x = 1\n"]]), "ok", "");
    let filled = gzip(&[&one[..], &[0; 10240 - 1024]].concat());
    case("filled up to a record", filled, a.clone(), "ok", "zeros may follow the end");
    for (name, kind) in
        [("a hard link", b'1'), ("a symbolic link", b'2'), ("a device", b'3'), ("a pipe", b'6')]
    {
        case(name, made(&[&entry(kind, "l", b"")]), json!([]), "kind", "files and directories only");
    }
    for (name, path) in [
        ("an absolute path", "/a"),
        ("a path that leads out", "../a"),
        ("a path that leads out and back", "a/../b"),
        ("an empty part", "a//b"),
        ("a file that is the root", "."),
        ("a control character", "a\nb"),
    ] {
        case(
            name,
            made(&[&one, &entry(b'0', path, b"")]),
            a.clone(),
            "path",
            "a path is one of parts below the root",
        );
    }
    let deep = format!("{}a", "d/".repeat(32));
    case("33 parts", made(&[&entry(b'0', &deep, b"")]), json!([]), "path", "32 parts are the most");
    for (name, second) in [
        ("a path twice", "a.py"),
        ("a path twice, once with ./", "./a.py"),
        ("a file as a directory", "a.py/b"),
    ] {
        case(name, made(&[&one, &entry(b'0', second, b"")]), a.clone(), "twice", "each path stands once");
    }
    let bomb = made(&[&one, &header(b'0', "bomb", 4 << 30)]);
    case("files of more than 4 GiB", bomb, a.clone(), "too_much", "told at the header that goes beyond it");
    for (name, record) in [("a size of its own", "9 size=1\n"), ("a path for all entries", "10 path=b\n")] {
        let kind = if record.contains("size") { b'x' } else { b'g' };
        case(
            name,
            made(&[&entry(kind, "p", record.as_bytes()), &one]),
            json!([]),
            "tar",
            "a header changes the next path alone",
        );
    }
    let between = made(&[&entry(b'L', "l", b"b"), &entry(b'g', "g", b""), &one]);
    case(
        "a header between a long name and its entry",
        between,
        json!([]),
        "tar",
        "a header stands before its entry",
    );
    let mut sum = [&one[..], &end].concat();
    sum[0] ^= 1;
    case("another checksum of a header", gzip(&sum), json!([]), "tar", "the checksum of a header holds");
    case("without its end", gzip(&one), a.clone(), "truncated", "two blocks of zeros end it");
    let good = made(&[&one]);
    case("cut off", good[..good.len() - 9].to_vec(), a.clone(), "truncated", "it is read to its end");
    let mut crc = good.clone();
    let at = crc.len() - 5;
    crc[at] ^= 1;
    case("another checksum of the content", crc, a.clone(), "gzip", "RFC 1952 section 2.3.1");
    case(
        "bytes behind it",
        [&good[..], b"x"].concat(),
        a.clone(),
        "trailing",
        "one gzip member and nothing else",
    );
    let second = gzip(&[&one[..], &end, &entry(b'0', "b", b"")].concat());
    case("an entry behind the end", second, a.clone(), "trailing", "only zeros follow the end");
    case("a zip file", b"PK\x03\x04 and so on, long enough".to_vec(), json!([]), "gzip", "it is gzip");
    vectors.hold();
}
