"""Proves what the real programs produced, and finds the tamperings that it plants in it.

Reads JSON on its standard input: `state` and `roots` (directories of a daemon that has stopped), `export` (a bundle that it
wrote), `url` (a control plane that still runs, or null), `token` and `revoked` (two direct-access tokens), `deployment`, `now`.
Prints JSON: `decisions` on the two tokens, how many `events`, `checkpoints` and `revocations` were proved, how many `tamperings`
were planted, those that were `unseen`, and `beyond`: those that a reader alone cannot find, with who finds them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import intake
import peers
from bundle import Bundle
from control import MEDIA_TYPE, Client, judge_freshness, new_nonce
from events import verify_checkpoint
from head import verify_head
from log import lines_of
from nodes import verify_proof
from proved import Proved, last_event, prove
from refusal import Malformed, Refusal
from revocation import admit_revocation
from state import RevocationRow
from tamper import STRANGER, Tally, flip_text, plant_in_signed, resign
from tamper_bundle import plant_in_bundle, plant_in_keysets, plant_in_replica, plant_in_time
from tamper_log import beyond_the_reader, plant_in_log, plant_with_key
from uploads import UploadedLog


def plant_in_objects(tally: Tally, proved: Proved, tokens: list[str]) -> None:
    """Plants in each kind of signed object, and passes each kind for every other."""
    state, members = proved.state, proved.members
    checkpoint, own = state.log.checkpoints[-1].text, state.signer.public

    def token(content: str) -> None:
        answer = proved.decide(content)
        if answer != "ok":
            raise Refusal(answer, "a token that was changed opens nothing")

    def head(content: str) -> None:
        verify_head(content, proved.keyset, state.data_plane)

    def revocation(content: str) -> None:
        admit_revocation(content, members)

    def signed(content: str) -> None:
        verify_checkpoint(content, state.node, own)

    proof_text = resign(state.signer, _proof(proved))

    def proof(content: str) -> None:
        verify_proof(content, state.issuer, proved.now, members)

    proof(proof_text)
    judges = {"token": token, "head": head, "revocation": revocation, "checkpoint": signed, "proof": proof}
    contents = {"token": tokens[0], "head": state.head, "checkpoint": checkpoint, "proof": proof_text}
    if state.revocations:
        contents["revocation"] = state.revocations[0].text
    for name, content in contents.items():
        plant_in_signed(tally, name, content, judges[name])
        for other, judge in judges.items():
            if other != name:
                tally.plant(f"{name}: passed for a {other}", lambda content=content, judge=judge: judge(content))
    for row in state.revocations:
        for changed in (RevocationRow("nod_other", row.token, row.text), RevocationRow(row.node, "tok_x", row.text)):
            tally.plant("revocation: row about another", lambda changed=changed: proved.check_revocation(changed))
        for what, change in {"reason": "", "iss": "nod_other", "operator": None, "x": 1}.items():
            forged = resign(state.signer, row.text, **{what: change})
            tally.plant(f"revocation: signed by the node, {what} wrong", lambda forged=forged: revocation(forged))
    for what, change in {"aud": "x", "exp": proved.now, "iat": proved.now + 300, "jti": "", "sub": "nod_other"}.items():
        forged = resign(state.signer, proof_text, **{what: change})
        tally.plant(f"proof: signed by the node, {what} wrong", lambda forged=forged: proof(forged))
    _plant_in_answer(tally, proved)


def _proof(proved: Proved) -> str:
    state = proved.state
    claims: dict[str, Any] = {"iss": state.node, "sub": state.node, "aud": state.issuer, "jti": "j"}
    return state.signer.compact("node-auth+jwt", {**claims, "iat": proved.now, "exp": proved.now + 300})


def _plant_in_answer(tally: Tally, proved: Proved) -> None:
    """Signs an answer to a peer with the node's key, and changes it on its way."""
    state = proved.state
    call, body = peers.Call("GET", "/v2/peer/revocations?after=0", b"", "j"), b'{"list":"l","next":0,"revocations":[]}'
    claims = {"iss": state.node, "aud": "nod_b", "iat": proved.now, "exp": proved.now + 300, "jti": "j", "instance": "i"}
    said = {"question": call.question, "status": 200, "answer": peers.sha256(body)}
    genuine = state.signer.compact(peers.ANSWER_TYP, {**claims, **said})

    def judge(content: str, status: int = 200, body: bytes = body, call: peers.Call = call, asks: str = "nod_b") -> None:
        peers.verify_answer(
            status, body, content, call, asks=asks, asked=state.node, members=proved.members, now=proved.now
        )

    judge(genuine)
    plant_in_signed(tally, "answer", genuine, judge)
    tally.plant("answer: another body", lambda: judge(genuine, body=body + b" "))
    tally.plant("answer: another status", lambda: judge(genuine, status=204))
    tally.plant("answer: to another node", lambda: judge(genuine, asks="nod_c"))
    for other in (
        peers.Call("POST", call.path, b"", "j"),
        peers.Call("GET", call.path + "0", b"", "j"),
        peers.Call("GET", call.path, b" ", "j"),
        peers.Call("GET", call.path, b"", "k"),
    ):
        tally.plant("answer: to another call", lambda other=other: judge(genuine, call=other))


def prove_control_plane(tally: Tally, proved: Proved, url: str) -> dict[str, Any]:
    """Follows the feed as a node does, sends what the node holds, and plants proofs that have to be refused."""
    state = proved.state
    client = Client(url, state.data_plane, state.node, state.issuer, state.signer)
    node, nonce = proved.empty_node(), new_nonce()
    answer = client.feed(0, 0, nonce)
    if (answer.status, answer.media_type) != (200, MEDIA_TYPE):
        raise Refusal("feed", f"status {answer.status}, media type {answer.media_type}")
    node.take(answer.body, source="feed", now=proved.now)
    assert node.head is not None and node.chain.newest is not None
    judge_freshness(None, node.head, nonce)
    if node.head.version < proved.head.version:
        raise Refusal("rollback", "the feed is behind what the node had taken")
    nonces = [new_nonce(), new_nonce()]
    beats = [client.feed(node.version, node.chain.newest.version, nonce) for nonce in nonces]
    _take_heartbeat(node, beats[0].body, nonces[0], proved.now)
    held = node.head
    tally.plant("feed: a heartbeat played back", lambda: _take_heartbeat(node, beats[0].body, nonces[1], proved.now, held))
    _plant_proofs(tally, client)
    return {"version": node.version, **_send(proved, client)}


def _take_heartbeat(node: intake.NodeState, data: bytes, nonce: str, now: int, before: Any = None) -> None:
    """Takes an answer to a request with a nonce. The head that is judged is the one of this answer, taken or not."""
    newest = node.chain.newest
    assert newest is not None
    held = before or node.head
    node.take(data, source="feed", now=now)
    judge_freshness(held, verify_head(Bundle(data).head, newest, node.data_plane), nonce)


def _plant_proofs(tally: Tally, client: Client) -> None:
    """A control plane answers 401 to a proof that does not hold, or that came before."""

    def refused(proof: str) -> None:
        status = client.call("GET", "feed?since=0&keyset=0&wait=0", proof=proof).status
        # The answer may be 400, because a flipped bit may give a character that no HTTP field may hold (RFC 9110
        # section 5.5).
        if status == 401 or (status == 400 and not proof.isprintable()):
            raise Refusal(str(status), "the proof does not hold")

    used = client.proof()
    client.call("GET", "feed?since=0&keyset=0&wait=0", proof=used)
    now = int(time.time())
    proofs = {
        "used before": used,
        "for another receiver": client.proof(aud="halligan-control"),
        "of another node": client.proof(iss="nod_other", sub="nod_other"),
        "that has ended": client.proof(iat=now - 301, exp=now - 1),
        "that lives too long": client.proof(exp=now + 600),
        "without an identifier": client.proof(jti=""),
        "by a stranger": resign(STRANGER, client.proof()),
        "of another kind": client.signer.compact("peer-answer+jwt", {"iss": client.node}),
    }
    for bit, changed in flip_text(client.proof(), 401):
        proofs[f"with bit {bit} flipped"] = changed.encode("ascii", "replace").decode()
    for what, proof in proofs.items():
        tally.plant(f"control plane: a proof {what}", lambda proof=proof: refused(proof))


def _send(proved: Proved, client: Client) -> dict[str, Any]:
    """Sends revocations and events again, and compares each answer with what the document makes of it."""
    state = proved.state
    lines = [line.decode() for line in lines_of(state.log.blocks)]
    body = "\n".join(row.text for row in state.revocations).encode()
    outcomes = json.loads(client.call("POST", "revocations", body).body) if body else []
    if any(entry["outcome"] not in ("revoked", "already") for entry in outcomes) or len(outcomes) != len(state.revocations):
        raise Refusal("revocations", f"the control plane answered {outcomes}")
    first = state.log.blocks[0].first
    position = json.loads(client.call("POST", f"events?oldest={first}", "\n".join(lines).encode()).body)
    above = UploadedLog(state.node)
    sequence, (last, digest) = above.take(lines, first), last_event(state.log)
    if (position["sequence"], position["hash"]) != (sequence, digest) or sequence != last or above.faults:
        raise Refusal("events", f"the control plane answered {position}")
    return {"outcomes": [entry["outcome"] for entry in outcomes], "position": position["sequence"]}


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Proves everything, plants, and returns what was found."""
    export = Path(asked["export"]).read_bytes()
    proved = prove(Path(asked["state"]), Path(asked["roots"]), export, asked["deployment"], asked["now"])
    tokens = [asked["token"], asked["revoked"]]
    decisions = [proved.decide(token) for token in tokens]
    tally = Tally()
    if decisions[0] == "ok":
        plant_in_objects(tally, proved, tokens)
    plant_in_bundle(tally, proved)
    plant_in_time(tally, proved)
    plant_in_keysets(tally, proved)
    plant_in_replica(tally, proved)
    plant_in_log(tally, proved.state.log)
    plant_with_key(tally, proved.state.log, proved.state.signer)
    beyond = beyond_the_reader(proved.state.log)
    control = prove_control_plane(tally, proved, asked["url"]) if asked.get("url") else None
    return {
        "decisions": decisions,
        "unseen": tally.unseen + [b.tampering for b in beyond if b.was_found_there is False],
        "revocations": len(proved.state.revocations),
        "events": len(lines_of(proved.state.log.blocks)),
        "checkpoints": len(proved.state.log.checkpoints),
        "tamperings": tally.planted,
        "harmless": tally.harmless,
        "by_place": tally.by_place,
        "beyond": [vars(b) for b in beyond],
        "control_plane": control,
    }


if __name__ == "__main__":
    try:
        print(json.dumps(main(json.load(sys.stdin)), ensure_ascii=False))
    except (Refusal, Malformed) as error:
        print(f"not proved: {error}")
        sys.exit(1)
