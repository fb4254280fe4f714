"""Runs the sample vectors (tests/vectors/README.md)."""

import json
import sys
from pathlib import Path

import keyset
import log
import peers
import replica
import tokens
from jose import jwk_key
from replica import Digest, Node
from text import Object, Refused, base64url, parse

FILES = {}


def file(name):
    return lambda run: FILES.setdefault(name, run)


def shared(members):
    """The one keyset of a file, which the vectors do not doubt."""
    return keyset.Keyset(keyset.general(members["keyset"]))


def recorded(entries):
    return {(entry["kind"], entry["key"]): entry["body"] for entry in entries}


def node_records(entries):
    bodies = [parse(json.dumps(entry)) for entry in entries]
    return {body["id"]: (jwk_key(body["key"]), body.get("retiredAt")) for body in bodies}


@file("tokens.json")
def run_token(members, case):
    tokens.verify(case["token"], shared(members))


@file("decisions.json")
def run_decision(members, case):
    tokens.decide(
        case["token"],
        shared(members),
        members["issuer"],
        recorded(case["records"]),
        needs=members["needs"],
        **{name: case[name] for name in ("revoked_here", "deployment", "client", "clock", "floor")},
    )


@file("introspection.json")
def run_introspection(members, case):
    tokens.introspected(
        members["token"], shared(members), case["answer"], members["deployment"], "etl", members["needs"]
    )


@file("glass.json")
def run_glass(_, case):
    return tokens.glass(case["mode"], case["broken_until"], case["outage"], case["now"])


@file("records.json")
def run_record(_, case):
    found = replica.body(case["kind"], case["key"], case["body"])
    if found is None:
        return "unreadable"
    if case["kind"] == "node" and not replica.nodes(recorded([case])):
        return "signs_nothing"
    return "ok"


@file("roles.json")
def run_role(_, case):
    readable = replica.body("role", case["key"], case["body"]) is not None
    return "ok" if readable and replica.role_digest(case["body"]) == case["digest"] else "another"


@file("digests.json")
def run_digest(_, case):
    digest = Digest()
    for (kind, key), body in recorded(case["records"]).items():
        digest.add(kind, key, body)
    for (kind, key), body in recorded(case["removed"]).items():
        digest.remove(kind, key, body)
    same = digest.lanes[:8] == case["first_lanes"] and digest.checksum() == case["checksum"]
    return "ok" if same else "another"


def roots(members):
    return keyset.Roots([jwk_key(jwk) for jwk in members["pinned"]], members["threshold"])


@file("keysets.json")
def run_keysets(members, case):
    keyset.chain(case["chain"], roots(members))


@file("heads.json")
def run_head(members, case):
    keyset.head(case["head"], shared(members), members["data_plane"])


@file("bundles.json")
def run_bundle(members, case):
    node = Node(members["data_plane"], roots(members))
    if not case["empty"]:
        node.take(base64url(members["held"]), "feed", 1_800_000_000)
    try:
        node.take(base64url(case["bundle"]), case["from"], case["now"])
    finally:
        after = (node.version, node.head and node.head["iat"])
        if after != (case["version_after"], case["signed_after"]):
            raise AssertionError(f"it holds version {after[0]}, signed at {after[1]}, after it")


@file("proofs.json")
def run_proof(members, case):
    log.proof(case["proof"], node_records(members["nodes"]), members["audience"], members["now"])


@file("enrolments.json")
def run_enrolment(members, case):
    peers.enrolment(case["proof"], case["key"], members["now"])


@file("peer_answers.json")
def run_peer_answer(members, case):
    nodes = node_records(members["nodes"])
    who = (members["asks"], members["asked"], members["now"])
    peers.answer(case["proof"], case["status"], case["body"], members["call"], nodes, *who)


@file("peer_lists.json")
def run_peer_list(members, case):
    try:
        after = peers.reads_after(case["body"], members["list"], members["after"])
    except Refused:
        after = members["after"]
        raise
    finally:
        if after != case["reads_after"]:
            raise AssertionError(f"it reads on after {after}")


@file("peer_heads.json")
def run_peer_heads(members, case):
    return peers.heads(case["body"], members["own"], shared(members), members["data_plane"])


@file("revocations.json")
def run_revocation(members, case):
    log.revocation(case["revocation"], node_records(members["nodes"]))


@file("outages.json")
def run_outage(_, case):
    log.outage(case["statement"])


@file("logs.json")
def run_log(members, case):
    try:
        log.verify(
            [(block["first"], block["last"], base64url(block["lines"])) for block in case["blocks"]],
            [(checkpoint["sequence"], checkpoint["text"]) for checkpoint in case["checkpoints"]],
            case["anchor"],
            case["uploaded"] and (case["uploaded"]["sequence"], case["uploaded"]["hash"]),
            jwk_key(members["key"]),
            members["node"],
        )
    except log.Fault as fault:
        return f"fault at {fault.sequence}"


@file("uploads.json")
def run_upload(_, case):
    return log.judge([(body["oldest"], body["lines"]) for body in case["bodies"]], "nod_a")


def run(directory):
    """Runs all files; gives the number of cases, and what differs."""
    count, differ = 0, []
    for path in sorted(Path(directory).glob("*.json")):
        members = json.loads(path.read_text())
        for case in members["cases"]:
            count += 1
            try:
                got = FILES[path.name](members, case) or "ok"
            except Refused as refused:
                got = refused.code
            except Exception as error:  # A file or a case that this reader does not know is a difference, too.
                got = f"{type(error).__name__}: {error}"
            if got != case["expected"]:
                differ.append(f"{path.name}: {case['name']}: {got}, expected {case['expected']}")
    return count, differ


__all__ = ["Object", "run"]

if __name__ == "__main__":
    total, differences = run(sys.argv[1])
    print(f"{total} cases", *differences, sep="\n")
    sys.exit(1 if differences else 0)
