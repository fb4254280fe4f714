"""What a node makes of a bundle (replica.md, "Intake"): the steps in their order, and the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jose
from bundle import Bundle, Change
from digest import Digest, digest_records
from head import Head, verify_head
from keyset import Chain, Keyset, SignedKeyset, parse_keyset_object
from records import Reader, Record, role_digest
from refusal import Malformed, Refusal
from text import Object

LEEWAY = 300


@dataclass(frozen=True)
class Window:
    """The end of one generation of a token, and the start of all of them."""

    generation: int
    start: int
    end: int

    def narrowed_by(self, other: Window) -> Window:
        """Returns what is proved once another record has been: the end moves with a rising generation only."""
        start = max(self.start, other.start)
        if other.generation < self.generation:
            return Window(self.generation, start, self.end)
        end = min(self.end, other.end) if other.generation == self.generation else other.end
        return Window(other.generation, start, end)


@dataclass
class Ledger:
    """What a node has proved once of tokens and role versions. It outlives records and snapshots."""

    grants: dict[str, Any] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    roles: dict[str, str] = field(default_factory=dict)

    def contradicts(self, record: Record, reader: Reader) -> bool:
        """Returns whether a record changes a grant that is held, or the body of a role version."""
        if record.kind == "role":
            return self.roles.get(record.key, role_digest(record.body)) != role_digest(record.body)
        if record.kind != "token":
            return False
        members = reader.read_or_none(record)
        return members is not None and self.grants.get(record.key, grant(members)) != grant(members)

    def note_end(self, record: Record, reader: Reader) -> None:
        """Notes what a record takes away: a revocation, a higher generation."""
        members = reader.read_or_none(record) if record.kind == "token" else None
        if members is None:
            return
        self.generations[record.key] = max(self.generations.get(record.key, 0), max(1, members["generation"]))
        if members["revokedAt"] is not None:
            self.revoked.add(record.key)

    def note(self, record: Record, reader: Reader) -> None:
        """Notes all that a proved record says."""
        if record.kind == "role":
            self.roles.setdefault(record.key, role_digest(record.body))
        members = reader.read_or_none(record) if record.kind == "token" else None
        if members is not None:
            self.grants.setdefault(record.key, grant(members))
            said = Window(max(1, members["generation"]), members["notBefore"], members["expiresAt"])
            known = self.windows.get(record.key)
            self.windows[record.key] = known.narrowed_by(said) if known else said
        self.note_end(record, reader)


def grant(members: dict[str, Any]) -> tuple[Any, ...]:
    """Returns what never changes of a token: also the order of Dag roles and sources."""
    dag_roles = [(r["role"]["id"], r["role"]["digest"], r["dag"], r["tag"]) for r in members["dagRoles"] or []]
    role = members["role"]
    sources = list(members["sources"] or [])
    return members["id"], members["deployment"], role["id"], role["digest"], dag_roles, sources, members["rateLimitPerMinute"]


@dataclass
class NodeState:
    """A node's keysets, head, records and ledger."""

    data_plane: str
    chain: Chain
    reader: Reader
    head: Head | None = None
    records: dict[tuple[str, str], Record] = field(default_factory=dict)
    digest: Digest = field(default_factory=Digest)
    ledger: Ledger = field(default_factory=Ledger)
    # Contradicting objects are stored as evidence.
    forks: list[Any] = field(default_factory=list)

    @property
    def version(self) -> int:
        """The version held: 0 without a head."""
        return self.head.version if self.head else 0

    def take(self, data: bytes, *, source: str, now: int) -> bool:
        """Takes a bundle from a `feed` or a `file`. Returns whether it took effect; refuses by the first step that fails."""
        try:
            bundle = Bundle(data)
            keysets = [parse_keyset_object(value) for value in bundle.keysets]
        except Malformed as error:
            raise Refusal("malformed", str(error)) from None
        newest = self._follow(keysets)
        head = self._prove_head(bundle.head, newest)
        self._check_times(head, newest, source, now)
        says_news = self._compare(head, source, now)
        if not says_news:
            self._compare_records(bundle)
            return False
        if bundle.base not in (0, self.version):
            raise Refusal("base", "base is 0, or exactly the version held")
        self._apply(bundle, head)
        return True

    def _follow(self, keysets: list[SignedKeyset]) -> Keyset:
        first = self.chain.held[0].version if self.chain.held else 0
        for keyset in keysets:
            try:
                self.chain.follow(keyset, first)
            except Malformed as error:
                # The form was checked before, so a JWK or the roots were refused: a fault of the keyset.
                raise Refusal("keyset", str(error)) from None
            except Refusal as refusal:
                known = [held for held in self.chain.held if held.version == keyset.version]
                if known:
                    self.forks.append((known[0], keyset))
                raise Refusal("keyset", refusal.rule) from None
            self._forget_dropped_head()
        newest = self.chain.newest
        if newest is None:
            raise Refusal("keyset", "no keyset is proved by the pinned roots")
        return newest

    def _forget_dropped_head(self) -> None:
        """Drops the head when the newest keyset no longer names its key. The ledger stays."""
        newest = self.chain.newest
        if self.head and newest and self.head.kid not in newest.replica_keys:
            self.head = None

    def _prove_head(self, content: str, newest: Keyset) -> Head:
        try:
            return verify_head(content, newest, self.data_plane)
        except Refusal as refusal:
            raise Refusal("head", refusal.rule) from None

    @staticmethod
    def _check_times(head: Head, newest: Keyset, source: str, now: int) -> None:
        if now >= newest.expires_at:
            raise Refusal("keyset_expired", "the newest keyset has not expired")
        if head.keyset > newest.version:
            raise Refusal("keyset_version", "keyset is not above the newest keyset")
        if source == "feed" and now >= head.expires_at:
            raise Refusal("frozen", "from a feed: the clock is before exp")
        if head.issued_at > now + LEEWAY:
            raise Refusal("future", "iat is at most 300 s ahead of the clock")

    def _compare(self, head: Head, source: str, now: int) -> bool:
        """Compares a head with the one held. Returns whether it says anything new."""
        held = self.head
        if head.version < self.version:
            raise Refusal("rollback", "version is not below the one held")
        if held is None or head.version > held.version:
            return True
        if not head.says_the_same_as(held):
            self.forks.append((held, head))
            raise Refusal("fork", "the same version has the same digest and count")
        if head.issued_at > held.issued_at:
            return True
        return source == "feed" and abs(head.issued_at - now) <= LEEWAY and held.issued_at > now

    def _compare_records(self, bundle: Bundle) -> None:
        """Refuses a bundle that says nothing new, and whose changes do not lead to the records held."""
        if bundle.base > self.version:
            raise Refusal("base", "base is not above the version held")
        put: set[tuple[str, str]] = set()
        try:
            for change in bundle.changes():
                held = self.records.get(change.identity)
                if (held.body if held else None) != change.body:
                    raise Refusal("digest", "each put is of a record that is held, each remove of one that is not")
                if change.body is not None:
                    if change.identity in put:
                        raise Refusal("twice", "no two lines put the same record")
                    put.add(change.identity)
        except Malformed as error:
            raise Refusal("malformed", str(error)) from None
        if bundle.base == 0 and len(put) != len(self.records):
            raise Refusal("digest", "a snapshot puts as many records as are held")

    def _apply(self, bundle: Bundle, head: Head) -> None:
        """Applies the changes to a copy, and keeps it only when count, digest and ledger agree."""
        snapshot = bundle.base == 0
        records = {} if snapshot else dict(self.records)
        bound = head.count if snapshot else head.count + (self.head.count if self.head else 0)
        effects: dict[tuple[str, str], Change] = {}
        try:
            for change in bundle.changes():
                if self._apply_change(change, records, snapshot, effects):
                    effects[change.identity] = change
                if len(effects) > bound:
                    raise Refusal("too_many", "records that are stored or removed are at most the count of the head (and held)")
        except Malformed as error:
            raise Refusal("malformed", str(error)) from None
        total = digest_records(records.values())
        if len(records) != head.count or total.checksum() != head.digest:
            raise Refusal("digest" if snapshot else "history", "count and digest are those of the head")
        stored = [change.record for change in effects.values() if change.body is not None]
        if any(self.ledger.contradicts(record, self.reader) for record in stored):
            for record in stored:
                self.ledger.note_end(record, self.reader)
            raise Refusal("invariant", "no grant of a token that the ledger holds, and no body of a role, has changed")
        for record in stored:
            self.ledger.note(record, self.reader)
        self.head, self.records, self.digest = head, records, total

    @staticmethod
    def _apply_change(
        change: Change, records: dict[tuple[str, str], Record], snapshot: bool, earlier: dict[tuple[str, str], Change]
    ) -> bool:
        """Applies one line. Returns whether it stored or removed a record."""
        before = earlier.get(change.identity)
        if change.body is None:
            if snapshot:
                return False
            if change.identity not in records:
                # A remove of a missing record has no effect. It counts as a second line only if an earlier line removed
                # that record.
                if before is not None and before.body is None:
                    raise Refusal("twice", "a remove behind a remove of the same record")
                return False
        if before is not None:
            raise Refusal("twice", "no two lines name the same kind and key")
        if change.body is None:
            del records[change.identity]
        else:
            records[change.identity] = change.record
        return True


def new_state(data_plane: str, pinned: tuple[jose.PublicKey, ...], threshold: int, reader: Reader) -> NodeState:
    """Returns a node that holds nothing."""
    return NodeState(data_plane, Chain(pinned, threshold), reader)
