"""Tamperings in bundles, keysets and the replica on the disk."""

from __future__ import annotations

import json
from typing import Any

import forms
import frame
import intake
from proved import Proved
from records import Record
from sign import compact_json, from_seed, sign_keyset
from tamper import STRANGER, Tally, changed_value, flip_bytes, flip_text


def take(proved: Proved, data: bytes, *, node: intake.NodeState | None = None, source: str = "file", now: int = 0) -> Any:
    """Takes a tampered bundle. Harmless when the node holds afterwards exactly what the genuine one gives it."""
    node = node or proved.empty_node()
    node.take(data, source=source, now=now or proved.now)
    is_same = node.records == proved.node.records and node.head == proved.head
    return "harmless" if is_same else "taken"


def plant_in_bundle(tally: Tally, proved: Proved) -> None:
    """Plants in the export: bits of the frame, lines, members of lines."""
    data = proved.export
    for bit, changed in flip_bytes(data[:16], 1):
        tally.plant(f"bundle: bit {bit}", lambda changed=changed: take(proved, changed + data[16:]))
    for bit, changed in flip_bytes(data, 131):
        tally.plant(f"bundle: bit {bit}", lambda changed=changed: take(proved, changed))
    for length in range(0, len(data), max(1, len(data) // 16)):
        tally.plant(f"bundle: cut off after {length} bytes", lambda length=length: take(proved, data[:length]))
    for what, other in {"a byte more": data + b"\0", "twice": data + data, "no checksum": _without_checksum(data)}.items():
        tally.plant(f"bundle: {what}", lambda other=other: take(proved, other))
    _plant_in_lines(tally, proved, _lines(data))


def _lines(data: bytes) -> list[str]:
    return b"".join(frame.decompress(data)).decode().split("\n")[:-1]


def _pack(lines: list[str]) -> bytes:
    return frame.compress("".join(line + "\n" for line in lines).encode())


def _without_checksum(data: bytes) -> bytes:
    return frame.compress(b"".join(frame.decompress(data)), checksum=False)


def _plant_in_lines(tally: Tally, proved: Proved, lines: list[str]) -> None:
    """The frame is made anew, so that only the content can show what was done."""

    def plant(what: str, changed: list[str]) -> None:
        tally.plant(f"bundle lines: {what}", lambda: take(proved, _pack(changed)))

    front = next(i for i, line in enumerate(lines) if line.startswith('{"head"'))
    for at, line in enumerate(lines):
        rest = (lines[:at], lines[at + 1 :])
        plant(f"line {at} left out", [*rest[0], *rest[1]])
        plant(f"line {at} twice", [*rest[0], line, line, *rest[1]])
        if at + 1 < len(lines):
            plant(f"lines {at} and {at + 1} exchanged", [*rest[0], lines[at + 1], line, *lines[at + 2 :]])
        members = json.loads(line)
        plant(f"line {at} with a member more", [*rest[0], compact_json({**members, "x": 1}), *rest[1]])
        for name, value in members.items():
            if name == "keyset":
                continue
            plant(f"line {at}, {name} changed", [*rest[0], compact_json({**members, name: changed_value(value)}), *rest[1]])
            plant(f"line {at}, {name} null", [*rest[0], compact_json({**members, name: None}), *rest[1]])
        if at > front:
            body = {**members, "body": members["body"] + " "}
            plant(f"line {at} with a space in its body", [*rest[0], compact_json(body), *rest[1]])
            remove = {"op": "remove", "kind": members["kind"], "key": members["key"]}
            plant(f"line {at} as a remove", [*rest[0], compact_json(remove), *rest[1]])
    plant("a line more", [*lines, compact_json({"op": "put", "kind": "token", "key": "tok_x", "body": "{}"})])
    plant("CR LF", [line + "\r" for line in lines])
    plant("an empty line", [*lines, ""])
    plant("a base of the future", [*lines[:front], compact_json({**json.loads(lines[front]), "base": 7}), *lines[front + 1 :]])


def plant_in_time(tally: Tally, proved: Proved) -> None:
    """Plays a genuine bundle at a wrong time, at another data plane, or where something else is held."""
    head = proved.head

    def plant(what: str, judge: Any) -> None:
        tally.plant(f"bundle, genuine: {what}", judge)

    plant("from a feed, at its end", lambda: take(proved, proved.export, source="feed", now=head.expires_at))
    plant("301 s before it was signed", lambda: take(proved, proved.export, now=head.issued_at - 301))
    plant("when the keyset has ended", lambda: take(proved, proved.export, now=proved.keyset.expires_at))
    other = intake.new_state("dpl_other", proved.pinned, 1, proved.reader)
    plant("at another data plane", lambda: take(proved, proved.export, node=other))
    strange = intake.new_state(proved.state.data_plane, (STRANGER.public,), 1, proved.reader)
    plant("at a host that pins another root", lambda: take(proved, proved.export, node=strange))
    thresholds = intake.new_state(proved.state.data_plane, proved.pinned, 2, proved.reader)
    plant("at a host whose threshold is two", lambda: take(proved, proved.export, node=thresholds))
    for what, changes in {
        "where a later version is held": {"version": head.version + 1},
        "where the version holds another digest": {"digest": "A" * 43},
        "where the version holds another count": {"count": head.count + 1},
    }.items():
        plant(what, lambda changes=changes: take(proved, proved.export, node=_holding(proved, **changes)))
    for key in list(proved.node.ledger.roles)[:2]:
        node = proved.empty_node()
        node.ledger.roles[key] = "A" * 43
        plant(f"where the ledger holds another {key}", lambda node=node: take(proved, proved.export, node=node))
    for key, grant in proved.node.ledger.grants.items():
        node = proved.empty_node()
        node.ledger.grants[key] = (*grant[:-1], 1)
        plant(f"where the ledger holds another grant of {key}", lambda node=node: take(proved, proved.export, node=node))


def _holding(proved: Proved, **changes: Any) -> intake.NodeState:
    node = proved.empty_node()
    node.take(proved.export, source="file", now=proved.now)
    assert node.head is not None
    node.head = type(node.head)(**{**node.head.__dict__, **changes})
    return node


def plant_in_keysets(tally: Tally, proved: Proved) -> None:
    """Plants in the keysets that are kept apart from the replica."""
    texts = proved.state.keysets
    content = texts[-1]
    for bit, changed in flip_text(content, 61):
        tally.plant(f"keyset: bit {bit}", lambda changed=changed: proved.check_keysets([*texts[:-1], changed]))
    outer = json.loads(content)
    payload = json.loads(forms.decode_base64url(outer["payload"]))
    for member, value in payload.items():
        other = sign_keyset({**payload, member: changed_value(value)}, [STRANGER])
        tally.plant(f"keyset: {member} changed by a stranger", lambda other=other: proved.check_keysets([other]))
    next_one = {**payload, "version": payload["version"] + 1, "roots": [STRANGER.jwk]}
    for what, keyset in {
        "a successor signed by the new root alone": sign_keyset(next_one, [STRANGER]),
        "a successor signed by nobody": sign_keyset(next_one, []),
        "a successor signed by the node": sign_keyset(next_one, [proved.state.signer, from_seed(8)]),
    }.items():
        tally.plant(f"keyset: {what}", lambda keyset=keyset: proved.check_keysets([*texts, keyset]))
    bare = {"payload": outer["payload"], "signatures": []}
    tally.plant("keyset: signatures taken away", lambda: proved.check_keysets([compact_json(bare)]))
    tally.plant("keyset: none left", lambda: proved.check_keysets([]))


def plant_in_replica(tally: Tally, proved: Proved) -> None:
    """Plants in the rows of the replica on the disk."""
    state = proved.state
    records = state.records

    def plant(what: str, changed: list[Record]) -> None:
        tally.plant(f"replica: {what}", lambda: proved.check_replica(state.head, changed, state.role_digests))

    for at, record in enumerate(records):
        before, behind = records[:at], records[at + 1 :]
        plant(f"record {at} left out", [*before, *behind])
        plant(f"record {at} twice", [*before, record, record, *behind])
        for bit, body in flip_text(record.body, max(1, len(record.body) * 2) | 1):
            if "\udc80" <= max(body) <= "\udcff":
                continue
            plant(f"record {at}, bit {bit} of its body", [*before, Record(record.kind, record.key, body), *behind])
        plant(f"record {at} under another key", [*before, Record(record.kind, record.key + "x", record.body), *behind])
        plant(f"record {at} of another kind", [*before, Record("x", record.key, record.body), *behind])
        if behind:
            other = behind[0]
            swapped = [Record(record.kind, record.key, other.body), Record(other.kind, other.key, record.body)]
            plant(f"bodies of records {at} and {at + 1} exchanged", [*before, *swapped, *behind[1:]])
    plant("a record more", [*records, Record("token", "tok_x", "{}")])
    for key in state.role_digests:
        digests = {**state.role_digests, key: "A" * 43}
        if any(record.identity == ("role", key) for record in records):
            tally.plant(
                f"replica: ledger, role {key} changed",
                lambda digests=digests: proved.check_replica(state.head, records, digests),
            )
