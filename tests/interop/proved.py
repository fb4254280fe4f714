"""Proves all that a node and its control plane produced, and holds it for `tamper.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import decision
import intake
import jose
import sign
from digest import digest_records
from events import line_hash
from head import Head, verify_head
from keyset import Keyset, judge_chain, read_keyset
from log import LogCopy, first_fault, lines_of
from nodes import Members, members_of
from records import Reader, Record, load_catalogue, role_digest
from refusal import Refusal
from revocation import admit_revocation
from state import RevocationRow, State, load_state

NEEDS = "deployment.airflow.dag.get"


@dataclass
class Proved:
    """What a reader knows once everything has been proved."""

    pinned: tuple[jose.PublicKey, ...]
    state: State
    reader: Reader
    export: bytes
    node: intake.NodeState
    members: Members
    deployment: str
    now: int

    @property
    def keyset(self) -> Keyset:
        """The newest keyset."""
        newest = self.node.chain.newest
        assert newest is not None
        return newest

    @property
    def head(self) -> Head:
        """The head of the export."""
        assert self.node.head is not None
        return self.node.head

    def empty_node(self) -> intake.NodeState:
        """Returns a node that holds nothing and pins the same roots."""
        return intake.new_state(self.state.data_plane, self.pinned, 1, self.reader)

    def decide(self, token: str) -> str:
        """Answers `GET /api/v2/dags` with a token, by the records of the export and the revocations of this host."""
        replica = decision.Replica(
            self.head.issuer,
            self.node.records,
            self.reader,
            self.keyset.token_keys,
            revoked_here={row.token for row in self.state.revocations},
            ledger_revoked=self.node.ledger.revoked,
            ledger_generations=self.node.ledger.generations,
            ledger_windows=self.node.ledger.windows,
        )
        question = decision.Question(self.deployment, NEEDS, None, None, self.now, self.head.issued_at)
        try:
            decision.decide(token, question, replica)
        except Refusal as refusal:
            return refusal.answer
        return "ok"

    def check_keysets(self, texts: list[str]) -> None:
        """Refuses keysets that do not lead from the pinned roots to the keyset of the export."""
        judge_chain(texts, self.pinned, 1)
        if read_keyset(texts[-1]).payload != self.keyset.payload:
            raise Refusal("keyset", "the last keyset that is kept is not the one of the export")

    def check_replica(self, head: str, records: list[Record], role_digests: dict[str, str]) -> None:
        """Refuses a replica on the disk whose head is not proved, or whose records are not those of its head."""
        held = verify_head(head, self.keyset, self.state.data_plane)
        if len({record.identity for record in records}) != len(records):
            raise Refusal("twice", "a (kind, key) stands once")
        if len(records) != held.count or digest_records(records).checksum() != held.digest:
            raise Refusal("digest", "count and digest are those of the head")
        for record in records:
            if record.kind == "role" and role_digests.get(record.key) != role_digest(record.body):
                raise Refusal("invariant", "the ledger holds another body of this role version")

    def check_revocation(self, row: RevocationRow) -> None:
        """Refuses a row whose text is not proved, or is about something else than the row says."""
        issuer, token, _ = admit_revocation(row.text, self.members)
        if (issuer, token) != (row.node, row.token):
            raise Refusal("row", "the row is about another revocation than its text")


def check_log(log: LogCopy) -> None:
    """Refuses a log that is not whole."""
    fault = first_fault(log)
    if fault is not None:
        raise Refusal(f"fault at {fault}", "the log of the node is not whole")


def prove(state_directory: Path, roots: Path, export: bytes, deployment: str, now: int) -> Proved:
    """Proves keysets, export, replica, revocations and log; raises `Refusal` with the first rule that is broken."""
    state = load_state(state_directory)
    pinned = tuple(sign.load_public(file) for file in sorted(roots.glob("*.pem")))
    reader = Reader(load_catalogue())
    node = intake.new_state(state.data_plane, pinned, 1, reader)
    node.take(export, source="file", now=now)
    nodes = [reader.read(record) for record in node.records.values() if record.kind == "node"]
    proved = Proved(pinned, state, reader, export, node, members_of(nodes), deployment, now)
    proved.check_keysets(state.keysets)
    proved.check_keysets(state.stored_keysets)
    proved.check_replica(state.head, state.records, state.role_digests)
    own = proved.members.with_key(state.node, state.signer.public.kid)
    if own is None or own.retired_at is not None:
        raise Refusal("issuer", "the export names this node with the key of its state directory")
    for record in node.records.values():
        # The real programs write no record that their own document calls unreadable.
        reader.read(record)
    for row in state.revocations:
        proved.check_revocation(row)
    check_log(state.log)
    return proved


def last_event(log: LogCopy) -> tuple[int, str]:
    """Returns sequence and hash of the last line of a log."""
    lines = lines_of(log.blocks)
    return log.blocks[-1].last, line_hash(lines[-1])


