"""Proves what the real programs produced, then plants tamperings in it and looks whether each is found.

Reads one JSON object: `state` (a node's state directory), `roots` (the directory of the pinned roots), `url` (its control plane),
`export` (an exported replica), `token` and `revoked` (values of two direct-access tokens), `deployment`, `now`. Prints what was
proved, and the tamperings that were not found."""

import json
import sqlite3
import sys
import urllib.request
import uuid
from pathlib import Path

import zstandard
from cryptography.hazmat.primitives import serialization

import keyset
import log
import replica
import tokens
from jose import thumbprint
from replica import Node
from text import Refused, base64url, encode

RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def pinned(directory):
    """The pinned roots, one of which must sign."""
    pems = [path.read_bytes() for path in sorted(Path(directory).glob("*.pem"))]
    return keyset.Roots([serialization.load_pem_public_key(pem).public_bytes(*RAW) for pem in pems], 1)


class Host:
    """A node by what is in its state directory."""

    def __init__(self, state):
        self.state = Path(state)
        identity = json.loads((self.state / "node.json").read_text())
        self.id, self.data_plane = identity["nodeId"], identity["dataPlaneId"]
        self.issuer = identity["issuer"]
        self.key = serialization.load_pem_private_key((self.state / "node.pem").read_bytes(), None)
        self.public = self.key.public_key().public_bytes(*RAW)

    def rows(self, database, query):
        connection = sqlite3.connect(f"file:{self.state / database}?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def proof(self, audience, now):
        """A node proof, as docs/protocol/feed.md says."""
        header = {"alg": "EdDSA", "typ": "node-auth+jwt", "kid": thumbprint(self.public)}
        claims = {"iss": self.id, "sub": self.id, "aud": audience, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4())}
        message = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
        return f"{message}.{encode(self.key.sign(message.encode()))}"

    def feed(self, url, since, keysets, now):
        """Downloads a bundle."""
        path = f"/v1/data-planes/{self.data_plane}/feed?since={since}&keyset={keysets}&wait=0"
        request = urllib.request.Request(url + path)
        request.add_header("Authorization", f"Bearer {self.proof(self.issuer, now)}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.headers["Content-Type"] == "application/vnd.halligan.bundle"
            return answer.read()


class Log:
    """A node's audit log as it lies on its disk."""

    def __init__(self, host):
        self.blocks = host.rows("audit.db", "SELECT first, last, lines FROM block")
        self.checkpoints = host.rows("audit.db", "SELECT sequence, text FROM checkpoint")
        anchors = host.rows("audit.db", "SELECT text FROM anchor")
        self.anchor = anchors[0][0] if anchors else None
        uploaded = host.rows("audit.db", "SELECT sequence, hash FROM uploaded")
        self.uploaded = uploaded[0] if uploaded else None
        self.key, self.node = host.public, host.id

    def verify(self, **changes):
        parts = {name: getattr(self, name) for name in ("blocks", "checkpoints", "anchor", "uploaded", "key", "node")}
        return log.verify(**{**parts, **changes})


def packed(lines):
    """Lines as a block, of literals alone."""
    content = "".join(f"{line}\n" for line in lines).encode()
    rest = len(content) - 15
    return len(content).to_bytes(4, "little") + b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + content


def flipped(data, every):
    """Copies of bytes or a text with one bit changed, at intervals."""
    for at in range(0, len(data), every):
        if isinstance(data, str):
            yield f"bit {at}", data[:at] + chr(ord(data[at]) ^ 1) + data[at + 1 :]
        else:
            yield f"bit {at}", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class Tamperings:
    """Tamperings, how many there were, and which were not found."""

    def __init__(self):
        self.count, self.unseen = 0, []

    def plant(self, what, name, prove):
        self.count += 1
        try:
            prove()
        except (Refused, log.Fault):
            return
        self.unseen.append(f"{what}: {name}")


def bundles(tamperings, bundle, roots, data_plane, now):
    """Tamperings in a snapshot."""
    lines = replica.unpack(bundle).split(b"\n")[:-1]

    def take(changed, pack=lambda lines: zstandard.compress(b"".join(line + b"\n" for line in lines))):
        return lambda: Node(data_plane, roots).take(pack(changed), "feed", now)

    for number, line in enumerate(lines):
        name = f"line {number + 1}"
        tamperings.plant("bundle", f"{name} left out", take(lines[:number] + lines[number + 1 :]))
        if b'"keyset":{' not in line:
            tamperings.plant("bundle", f"{name} twice", take(lines[: number + 1] + lines[number:]))
        for bit, changed in flipped(line, max(1, len(line) // 8)):
            tamperings.plant("bundle", f"{name}, {bit}", take(lines[:number] + [changed] + lines[number + 1 :]))
    for length in range(0, len(bundle), max(1, len(bundle) // 16)):
        tamperings.plant("bundle", f"cut to {length} bytes", take(bundle[:length], bytes))
    tamperings.plant("bundle", "no line feed at the end", take(lines, lambda lines: zstandard.compress(b"\n".join(lines))))


def logs(tamperings, held):
    """Tamperings in a log."""
    lines = held.verify()
    covered = max(sequence for sequence, _ in held.checkpoints)

    def plant(name, **changes):
        tamperings.plant("log", name, lambda: held.verify(**changes))

    def whole(changed):
        return [(1, len(changed), packed(changed))]

    for number in range(covered):
        at = lines[number].index('"time":') + 8
        changed = lines[number][:at] + str(9 - int(lines[number][at])) + lines[number][at + 1 :]
        plant(f"event {number + 1} changed", blocks=whole([*lines[:number], changed, *lines[number + 1 :]]))
        plant(f"event {number + 1} left out", blocks=whole(lines[:number] + lines[number + 1 :]))
        plant(f"cut off behind event {number}", blocks=whole(lines[:number]) if number > 0 else [])
        # Everything from there on chained anew, as someone who can write the database would.
        anew, prev = list(lines[:number]), log.line_hash(lines[number - 1]) if number else encode(bytes(32))
        for line in [changed, *lines[number + 1 :]]:
            start = line.index('"prev":"') + 8
            anew.append(line[:start] + prev + line[start + 43 :])
            prev = log.line_hash(anew[-1])
        plant(f"event {number + 1} changed and chained anew", blocks=whole(anew))
    for number, (sequence, text) in enumerate(held.checkpoints):
        rest = held.checkpoints[:number] + held.checkpoints[number + 1 :]
        if number + 1 < len(held.checkpoints):
            plant(f"the checkpoint at {sequence} left out", checkpoints=rest)
        for bit, changed in flipped(text, 29):
            plant(f"the checkpoint at {sequence}, {bit}", checkpoints=[*rest, (sequence, changed)])
        plant(f"the checkpoint at {sequence} moved", checkpoints=[*rest, (sequence + 1, text)])
    plant("the beginning cut off", blocks=[(2, len(lines), packed(lines[1:]))])


def main(asked):
    now, roots, host = asked["now"], pinned(asked["roots"]), Host(asked["state"])
    fed = Node(host.data_plane, roots)
    snapshot = host.feed(asked["url"], 0, 0, now)
    fed.take(snapshot, "feed", now)
    fed.take(host.feed(asked["url"], fed.version, fed.keyset.version, now), "feed", now)
    exported = Node(host.data_plane, roots)
    exported.take(Path(asked["export"]).read_bytes(), "file", now)
    assert exported.records == fed.records, "the node holds something else than its control plane publishes"
    nodes = replica.nodes(fed.records)
    assert nodes[host.id][0] == host.public, "the replica names another key than the node has"

    revocations = [text for (text,) in host.rows("revocations.db", "SELECT text FROM revocation")]
    ended = {log.revocation(text, nodes)["sub"] for text in revocations}
    request = {"deployment": asked["deployment"], "client": None, "clock": now, "floor": now}
    decisions = []
    for token in (asked["token"], asked["revoked"]):
        sub = tokens.verify(token, fed.keyset)[1]["sub"]
        try:
            tokens.decide(
                token,
                fed.keyset,
                host.issuer,
                fed.records,
                revoked_here=sub in ended,
                needs="deployment.airflow.dag.get",
                **request,
            )
            decisions.append("ok")
        except Refused as refused:
            decisions.append(refused.code)
    held = Log(host)
    lines = held.verify()

    tamperings = Tamperings()
    bundles(tamperings, snapshot, roots, host.data_plane, now)
    logs(tamperings, held)
    for bit, changed in flipped(asked["token"], 7):
        tamperings.plant("token", bit, lambda changed=changed: tokens.verify(changed, fed.keyset))
    for text in revocations:
        for bit, changed in flipped(text, 7):
            tamperings.plant("revocation", bit, lambda changed=changed: log.revocation(changed, nodes))
    others = {id: (bytes(base64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")), None) for id in nodes}
    tamperings.plant("revocation", "of another node's key", lambda: log.revocation(revocations[0], others))
    return {
        "version": fed.version,
        "records": len(fed.records),
        "events": len(lines),
        "checkpoints": len(held.checkpoints),
        "revocations": len(revocations),
        "decisions": decisions,
        "tamperings": tamperings.count,
        "unseen": tamperings.unseen,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
