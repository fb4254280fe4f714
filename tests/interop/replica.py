"""Records, digests, bundles and what a node takes in, as docs/protocol/replica.md says."""

import hashlib
import ipaddress
import json
from pathlib import Path

import zstandard
from blake3 import blake3

import keyset as keysets
from jose import jwk_key, jwk_shape
from text import (
    Refused,
    Table,
    array,
    count,
    digest,
    encode,
    identifier,
    one_of,
    parse,
    record_of,
    role_name,
    text,
    time,
    u32,
    u64,
)

_VECTORS = Path(__file__).parent.parent / "vectors"
CATALOGUE = tuple(json.loads((_VECTORS / "roles.json").read_text())["catalogue"])
permission = one_of(*CATALOGUE)

_ROLE = Table(True, id=(role_name, "required"), digest=(digest, "required"))
_DAG_ROLE = Table(False, role=(_ROLE, "required"), dag=(text, "optional"), tag=(text, "optional"))


def dag_role(value):
    found = _DAG_ROLE(value)
    if ("dag" in found) == ("tag" in found):
        raise ValueError("exactly one of dag and tag")
    return found


BODIES = {
    "token": Table(
        True,
        id=(identifier, "required"),
        deployment=(identifier, "required"),
        generation=(u32, "required"),
        role=(_ROLE, "required"),
        dagRoles=(array(dag_role), "default"),
        notBefore=(time, "required"),
        expiresAt=(time, "required"),
        sources=(array(text), "default"),
        rateLimitPerMinute=(u32, "optional"),
        revokedAt=(time, "optional"),
    ),
    "role": Table(
        True,
        name=(identifier, "required"),
        version=(u32, "required"),
        scope=(one_of("ORGANIZATION", "WORKSPACE", "DEPLOYMENT", "DAG"), "required"),
        permissions=(array(permission), "required"),
    ),
    "deployment": Table(
        True,
        id=(identifier, "required"),
        workspace=(text, "required"),
        name=(text, "required"),
        hosts=(array(text), "default"),
        routes=(text, "default"),
        glass=(one_of("always", "outage", "sealed"), "default"),
    ),
    "dag-tags": Table(True, deployment=(identifier, "required"), tags=(record_of(array(text)), "required")),
    "node": Table(
        True,
        id=(identifier, "required"),
        name=(text, "required"),
        key=(jwk_shape, "required"),
        retiredAt=(time, "optional"),
    ),
    "standard-tokens": Table(True, changes=(u64, "required")),
}


def body(kind, key, source):
    """What a record says, or none when it cannot be read."""
    try:
        found = BODIES[kind].read(source)
    except Refused:
        return None
    if kind == "role":
        name = f"{found['name']}@{found['version']}" if found["version"] else None
    elif kind == "standard-tokens":
        name = key
    else:
        name = found.get("id", found.get("deployment"))
    return found if name == key else None


def nodes(records):
    """The nodes whose signature counts: id to (key, retiredAt)."""
    found = {}
    for (kind, key), source in records.items():
        node = body(kind, key, source) if kind == "node" else None
        try:
            if node:
                found[key] = (jwk_key(node["key"]), node.get("retiredAt"))
        except Refused:
            continue
    return found


def networks(sources):
    """The networks of a token, or none when one of them is no CIDR."""
    try:
        if not all("/" in source for source in sources):
            return None
        return [ipaddress.ip_network(source, strict=False) for source in sources]
    except ValueError:
        return None


def role_digest(source):
    return encode(hashlib.sha256(source.encode()).digest())


class Digest:
    """LtHash: 1024 lanes of 16 bits."""

    def __init__(self):
        self.lanes = [0] * 1024

    def _change(self, sign, kind, key, source):
        parts = [part.encode() for part in (kind, key, source)]
        framed = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        wide = blake3(framed).digest(length=2048)
        for lane in range(1024):
            number = int.from_bytes(wide[2 * lane : 2 * lane + 2], "little")
            self.lanes[lane] = (self.lanes[lane] + sign * number) % 65536

    def add(self, *record):
        self._change(1, *record)

    def remove(self, *record):
        self._change(-1, *record)

    def checksum(self):
        return encode(blake3(b"".join(lane.to_bytes(2, "little") for lane in self.lanes)).digest())


LINE, ALL, KEYSETS = 4 << 20, 1 << 30, 1000
_KEYSET_LINE = Table(True, keyset=(lambda value: value, "required"))
_HEAD_LINE = Table(True, head=(text, "required"), base=(count, "required"))
_KIND = one_of(*BODIES)
_PUT = Table(
    True,
    op=(one_of("put"), "required"),
    kind=(_KIND, "required"),
    key=(text, "required"),
    body=(text, "required"),
)
_REMOVE = Table(True, op=(one_of("remove"), "required"), kind=(_KIND, "required"), key=(text, "required"))


def unpack(bundle):
    """The bytes in a bundle's frame."""
    # RFC 8878 section 3.1.1: the magic number, then a descriptor whose bit 2 says that a checksum follows.
    if bundle[:4] != b"\x28\xb5\x2f\xfd" or len(bundle) < 5 or not bundle[4] & 4:
        raise Refused("malformed", "not a frame with a checksum")
    decoder = zstandard.ZstdDecompressor(max_window_size=8 << 20).decompressobj()
    content = bytearray()
    try:
        for start in range(0, len(bundle), 65536):
            content += decoder.decompress(bundle[start : start + 65536])
            if len(content) > ALL:
                raise Refused("malformed", "larger than 1 GiB")
            if decoder.eof:
                if decoder.unused_data or start + 65536 < len(bundle):
                    raise Refused("malformed", "something stands behind the frame")
                return bytes(content)
    except zstandard.ZstdError as error:
        raise Refused("malformed", str(error)) from None
    raise Refused("malformed", "the frame ends early")


def lines(content):
    """The lines of a bundle, each of which ends with LF."""
    if content and not content.endswith(b"\n"):
        raise Refused("malformed", "the last line has no LF")
    for line in content.split(b"\n")[:-1]:
        if len(line) + 1 > LINE:
            raise Refused("malformed", "a line is longer than 4 MiB")
        if line.endswith(b"\r"):
            raise Refused("malformed", "a line ends in CR LF")
        yield line


class Bundle:
    """A bundle that nobody vouches for."""

    def __init__(self, packed):
        self.keysets, self.head = [], None
        rest = lines(unpack(packed))
        for line in rest:
            found = parse(line)
            if set(found) == {"keyset"} and not found.repeated:
                # The very text of the keyset: what stands between the braces of the line.
                start = line.index(b":", line.index(b'"keyset"') + 8) + 1
                self.keysets.append(line[start : line.rindex(b"}")].decode().strip())
                if len(self.keysets) > KEYSETS:
                    raise Refused("malformed", "too many keysets")
                continue
            head = _HEAD_LINE.read(line)
            self.head, self.base = head["head"], head["base"]
            break
        if self.head is None:
            raise Refused("malformed", "no head")
        self.rest = rest

    def changes(self):
        for line in self.rest:
            table = _REMOVE if parse(line).get("op") == "remove" else _PUT
            yield table.read(line)


class Node:
    """What one node holds."""

    SKEW = 300

    def __init__(self, data_plane, pinned):
        self.data_plane, self.pinned = data_plane, pinned
        self.chain, self.head, self.records, self.ledger = [], None, {}, {}

    @property
    def keyset(self):
        return self.chain[-1] if self.chain else None

    @property
    def version(self):
        return self.head["version"] if self.head else 0

    def follow(self, offered):
        """Follows keysets, and keeps each as soon as it is proved."""
        if self.chain:
            lowest = self.chain[0].version
            offered = [source for source in offered if keysets.stated_version(source) >= lowest]
        elif offered:
            try:
                _, place = keysets.earliest(offered, self.pinned)
            except Refused as error:
                raise Refused("keyset", str(error)) from None
            offered = offered[place:]
        for source in offered:
            try:
                if keysets.general(source)["payload"] in [known.payload for known in self.chain]:
                    continue
                before = self.keyset
                after = keysets.following(source, before) if before else keysets.first(source, self.pinned)
            except Refused as error:
                raise Refused("keyset", str(error)) from None
            self.chain.append(after)
            # The key of the head that is held may be gone: then the head is none.
            if self.head and self.head["kid"] not in after.keys["replica"]:
                self.head = None
        if not self.chain:
            raise Refused("keyset", "no keyset")

    def take(self, packed, source, now):
        """Takes a bundle in, or refuses it."""
        bundle = Bundle(packed)
        self.follow(bundle.keysets)
        try:
            head = keysets.head(bundle.head, self.keyset, self.data_plane)
        except Refused as error:
            raise Refused("head", str(error)) from None
        head["kid"] = keysets.head_kid(bundle.head)
        if now >= self.keyset.exp:
            raise Refused("keyset_expired")
        if head["keyset"] > self.keyset.version:
            raise Refused("keyset_version")
        if source == "feed" and now >= head["exp"]:
            raise Refused("frozen")
        if head["iat"] > now + self.SKEW:
            raise Refused("future")
        held = self.head
        if held:
            if head["version"] < held["version"]:
                raise Refused("rollback")
            if head["version"] == held["version"]:
                if (head["digest"], head["count"]) != (held["digest"], held["count"]):
                    raise Refused("fork")
                # A head from a feed that agrees with the clock replaces one that was signed ahead of it.
                ahead = source == "feed" and held["iat"] > now and abs(head["iat"] - now) <= self.SKEW
                if head["iat"] == held["iat"] or (head["iat"] < held["iat"] and not ahead):
                    for _ in bundle.changes():
                        pass
                    return
        if bundle.base not in (0, self.version):
            raise Refused("base")
        records = self._changed(bundle, head, held["count"] if held else 0)
        total = Digest()
        for (kind, key), stored in records.items():
            total.add(kind, key, stored)
        if len(records) != head["count"] or total.checksum() != head["digest"]:
            raise Refused("history" if bundle.base else "digest")
        self._enter(records)
        self.head, self.records = head, records

    def _changed(self, bundle, head, before):
        records = {} if bundle.base == 0 else dict(self.records)
        most = head["count"] + (before if bundle.base else 0)
        seen = set()
        for change in bundle.changes():
            name = (change["kind"], change["key"])
            if change["op"] == "remove" and (not bundle.base or name not in records):
                # It has no effect, and is not counted. What this bundle has removed already stands twice, though.
                if bundle.base and name in seen:
                    raise Refused("twice")
                continue
            if name in seen:
                raise Refused("twice")
            seen.add(name)
            if len(seen) > most:
                raise Refused("too_many")
            if change["op"] == "put":
                records[name] = change["body"]
            else:
                records.pop(name, None)
        return records

    def _enter(self, records):
        """Enters what records say into the ledger, unless one of them changes what never changes."""
        entries = {}
        for (kind, key), stored in records.items():
            if kind == "role":
                entries[kind, key] = role_digest(stored)
            elif kind == "token" and (token := body(kind, key, stored)):
                entries[kind, key] = [
                    token["deployment"],
                    token["role"],
                    token.get("dagRoles", []),
                    token.get("sources", []),
                    token.get("rateLimitPerMinute"),
                ]
        if any(self.ledger.get(name, entry) != entry for name, entry in entries.items()):
            raise Refused("invariant")
        self.ledger.update(entries)
