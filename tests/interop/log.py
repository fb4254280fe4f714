"""Local revocations, proofs, outages and logs, as docs/protocol/log.md and docs/protocol/feed.md say."""

import hashlib
import unicodedata

from jose import compact, thumbprint
from text import (
    Refused,
    Table,
    array,
    boolean,
    digest,
    encode,
    identifier,
    one_of,
    role_name,
    text,
    time,
    u32,
    u64,
)

_REVOCATION = Table(
    True,
    iss=(identifier, "required"),
    sub=(identifier, "required"),
    iat=(time, "required"),
    jti=(text, "required"),
    operator=(text, "required"),
    reason=(text, "required"),
)


def _by_thumbprint(nodes):
    return {thumbprint(key): key for key, _ in nodes.values()}


def revocation(source, nodes):
    """Admits a local revocation; `nodes` is id to (key, retiredAt)."""
    _, kid, payload = compact(source, ("local-revocation+jwt",), _by_thumbprint(nodes), 8192)
    claims = _REVOCATION.read(payload)
    key, retired_at = nodes.get(claims["iss"], (b"", None))
    if not key or thumbprint(key) != kid:
        raise Refused("issuer")
    reason = claims["reason"]
    control = any(unicodedata.category(character) == "Cc" for character in reason)
    if not reason.strip() or len(reason) > 500 or control:
        raise Refused("reason")
    if retired_at is not None and claims["iat"] >= retired_at:
        raise Refused("retired")
    return claims


_PROOF = Table(
    False,
    iss=(identifier, "required"),
    sub=(identifier, "required"),
    aud=(text, "required"),
    iat=(time, "required"),
    exp=(time, "required"),
    jti=(text, "required"),
)


def proof(source, nodes, audience, now):
    """Proves a node."""
    try:
        _, kid, payload = compact(source, ("node-auth+jwt",), _by_thumbprint(nodes), 2048)
    except Refused as error:
        raise Refused("malformed" if error.code == "too_large" else error.code, str(error)) from None
    claims = _PROOF.read(payload)
    if not claims["jti"]:
        raise Refused("malformed", "an empty jti")
    key, retired_at = nodes.get(claims["iss"], (b"", None))
    if not key or thumbprint(key) != kid or claims["sub"] != claims["iss"]:
        raise Refused("issuer")
    if retired_at is not None:
        raise Refused("retired")
    if claims["aud"] != audience:
        raise Refused("audience")
    timely(claims, now)
    return claims


def timely(claims, now):
    """The times of a proof."""
    length = claims["exp"] - claims["iat"]
    if not (claims["exp"] > now and claims["iat"] < now + 300 and 0 < length <= 300):
        raise Refused("time")


_ALARM = Table(
    False,
    time=(time, "required"),
    kind=(text, "required"),
    what=(text, "required"),
    times=(u64, "required"),
)
_OUTAGE = Table(
    False,
    id=(text, "required"),
    beganAt=(time, "required"),
    endedAt=(time, "required"),
    lastContactAt=(time, "optional"),
    cause=(text, "default"),
    firstSequence=(u64, "required"),
    lastSequence=(u64, "required"),
    alarms=(array(_ALARM), "default"),
)


def outage(source):
    """Reads the statement of an outage."""
    stated = _OUTAGE.read(source)
    try:
        identifier(stated["id"])
    except ValueError:
        raise Refused("refused", "the id") from None
    if stated["endedAt"] < stated["beganAt"]:
        raise Refused("refused", "the end")
    return stated


KINDS = ("decision", "glass-broken", "glass-sealed", "revocation", "clock-accepted", "loss-accepted")
_EVENT = Table(
    True,
    sequence=(u64, "required"),
    prev=(digest, "required"),
    id=(text, "required"),
    time=(time, "required"),
    node=(identifier, "required"),
    kind=(one_of(*KINDS), "required"),
    decision=(one_of("allow", "deny"), "optional"),
    reason=(text, "optional"),
    token=(identifier, "optional"),
    generation=(u32, "optional"),
    session=(identifier, "optional"),
    role=(role_name, "optional"),
    deployment=(identifier, "optional"),
    method=(text, "optional"),
    route=(text, "optional"),
    path=(text, "optional"),
    permission=(text, "optional"),
    client=(text, "optional"),
    glass=(one_of("always", "outage", "sealed", "broken"), "optional"),
    operator=(text, "optional"),
    because=(text, "optional"),
    until=(time, "optional"),
    connectivity=(one_of("connecting", "online", "offline"), "required"),
)
_CHECKPOINT = Table(
    False,
    iss=(identifier, "required"),
    iat=(time, "required"),
    number=(u64, "required"),
    sequence=(u64, "required"),
    hash=(digest, "required"),
    dropped=(boolean, "default"),
)


class Fault(Exception):
    """The first event at which a log is not whole."""

    def __init__(self, sequence, why):
        super().__init__(f"event {sequence}: {why}")
        self.sequence = sequence


def unpack(block):
    """The lines of a block: their length, then LZ4 in its block format."""
    if len(block) < 5:
        raise ValueError("too short")
    length, at, found = int.from_bytes(block[:4], "little"), 4, bytearray()

    def more(value):
        nonlocal at
        while value >= 15 and block[at] == 255:
            value, at = value + 255, at + 1
        if value >= 15:
            value, at = value + block[at], at + 1
        return value

    while True:
        token, at = block[at], at + 1
        literals = more(token >> 4)
        if at + literals > len(block) or len(found) + literals > length:
            raise ValueError("literals beyond the block")
        found += block[at : at + literals]
        at += literals
        if at == len(block):
            break
        offset, at = int.from_bytes(block[at : at + 2], "little"), at + 2
        match = more(token & 15) + 4
        if not 1 <= offset <= len(found) or len(found) + match > length:
            raise ValueError("a match beyond what there is")
        for _ in range(match):
            found.append(found[-offset])
    if len(found) != length:
        raise ValueError("another length than stated")
    return found.decode("utf-8")


def line_hash(line):
    return encode(hashlib.sha256(line.encode()).digest())


def _signed(source, key, sequence):
    try:
        payload = compact(source, ("audit-checkpoint+jwt",), {thumbprint(key): key}, 4096)[2]
        return _CHECKPOINT.read(payload)
    except Refused as error:
        raise Fault(sequence, f"its checkpoint does not hold: {error}") from None


def verify(blocks, checkpoints, anchor, uploaded, key, node):
    """Proves that a log is whole, as far as its node signed: blocks are (first, last, bytes), checkpoints (sequence, text). Gives
    its lines."""
    last, prev, number = 0, encode(bytes(32)), 0
    if anchor is not None:
        claims = _signed(anchor, key, 1)
        if not claims.get("dropped"):
            raise Fault(claims["sequence"], "the anchor has not dropped true")
        last, prev, number = claims["sequence"], claims["hash"], claims["number"]
    begin, found, signed = last, [], {}
    for sequence, source in sorted(checkpoints):
        claims = _signed(source, key, sequence)
        number += 1
        if claims["sequence"] != sequence or claims.get("dropped"):
            raise Fault(sequence, "signed for another place")
        if claims["number"] != number or sequence <= begin:
            raise Fault(sequence, "a checkpoint is missing")
        if claims["iss"] != node:
            raise Fault(sequence, "signed for another node")
        signed[sequence] = claims["hash"]
    for first, end, packed in sorted(blocks):
        if first != last + 1:
            raise Fault(last + 1, "it is missing")
        try:
            content = unpack(packed)
        except (ValueError, IndexError) as error:
            raise Fault(first, f"its block: {error}") from None
        for line in content.split("\n")[:-1]:
            try:
                event = _EVENT.read(line)
            except Refused as error:
                raise Fault(last + 1, str(error)) from None
            if event["sequence"] != last + 1 or event["prev"] != prev or event["node"] != node:
                raise Fault(last + 1, "not chained to the event before")
            last, prev = last + 1, line_hash(line)
            if signed.pop(last, prev) != prev:
                raise Fault(last, "not the event its checkpoint was signed for")
            if uploaded and uploaded[0] == last and uploaded[1] != prev:
                raise Fault(last, "not the event that the control plane took in")
            found.append(line)
        if end != last:
            raise Fault(first, "its block ends elsewhere")
    if signed or (uploaded and uploaded[0] > last):
        raise Fault(last + 1, "it is missing")
    return found


_UPLOADED = Table(
    False,
    sequence=(u64, "required"),
    prev=(text, "required"),
    id=(text, "required"),
    time=(time, "required"),
    node=(identifier, "required"),
    kind=(text, "required"),
    connectivity=(text, "required"),
)


class Received:
    """What has arrived of the log of a node: each line's place by its hash, and where the log stands."""

    def __init__(self):
        self.places, self.faults = {}, []
        self.branch, self.last, self.hash = 0, 0, encode(bytes(32))

    def judge(self, event, first, oldest):
        """The branch of a line and its fault, or the sequence from which the node is to go on."""
        sequence, prev, following = event["sequence"], event["prev"], self.last + 1
        if (sequence, prev) == (following, self.hash):
            return self.branch, None
        branch, before = self.places.get(prev, (None, None))
        if before is not None and before == sequence - 1:
            forked = (branch, sequence) in self.places.values()
            return (self.beside(), "fork") if forked else (branch, None)
        if (sequence, prev) == (1, encode(bytes(32))):
            return self.beside(), "restart"
        if sequence > following and oldest <= following:
            return self.last
        if first and oldest < sequence:
            return 0
        return (self.branch, "gap") if sequence > following else (self.beside(), "broken")

    def beside(self):
        return 1 + max([self.branch, *(branch for branch, _ in self.places.values())])

    def keep(self, line, branch, sequence, fault):
        if fault:
            self.faults.append((branch, sequence, fault))
        # A line that fills a gap does not move the end of the log.
        later = any(place[0] == branch and place[1] > sequence for place in self.places.values())
        self.places[line_hash(line)] = (branch, sequence)
        if fault or not later:
            self.branch, self.last, self.hash = branch, sequence, line_hash(line)


def judge(bodies, node):
    """Where the log of a node stands at its control plane after these bodies of lines, and its faults."""
    log, at = Received(), 0
    for oldest, lines in bodies:
        at = None
        for number, line in enumerate(lines):
            if line_hash(line) in log.places:
                continue
            try:
                event = _UPLOADED.read(line)
            except Refused:
                event = None
            if event is None or event["node"] != node:
                log.keep(line, log.branch, log.last + 1, "unreadable")
                continue
            judged = log.judge(event, number == 0, oldest)
            if isinstance(judged, int):
                at = judged
                break
            log.keep(line, judged[0], event["sequence"], judged[1])
        at = log.last if at is None else at
    return f"at {at}" + "".join(f", {fault} at {sequence}" for _, sequence, fault in sorted(log.faults))
