"""Tamperings in a node's log, and those of them that only the control plane can find."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from events import line_hash
from log import Block, LogCopy, Row, first_fault, lines_of
from lz4 import encode_block
from proved import check_log
from sign import Signer, compact_json
from tamper import STRANGER, Tally, changed_value, flip_bytes, resign, split_claims
from uploads import UploadedLog


def pack(log: LogCopy, lines: list[bytes], first: int = 1) -> LogCopy:
    """Puts lines into one block that says of itself what is true."""
    if not lines:
        return replace(log, blocks=[])
    content = b"".join(line + b"\n" for line in lines)
    return replace(log, blocks=[Block(first, first + len(lines) - 1, encode_block(content))])


def chain_anew(lines: list[bytes], start: int) -> list[bytes]:
    """Corrects `sequence` and `prev` of all lines from an index on, as a careful forger does."""
    result = list(lines)
    for at in range(start, len(result)):
        event = json.loads(result[at])
        event["sequence"] = at + 1
        event["prev"] = line_hash(result[at - 1]) if at else json.loads(lines[0])["prev"]
        result[at] = compact_json(event).encode()
    return result


def plant_in_log(tally: Tally, log: LogCopy) -> None:
    """Plants in lines, blocks, checkpoints, the anchor and the position that was taken in."""
    lines = lines_of(log.blocks)

    def plant(what: str, changed: LogCopy) -> None:
        tally.plant(f"log: {what}", lambda: check_log(changed))

    _plant_in_lines(plant, log, lines)
    _plant_in_rows(tally, plant, log, lines)
    _plant_in_checkpoints(plant, log)
    plant("uploaded, beyond the end", replace(log, uploaded=(log.blocks[-1].last + 1, "A" * 43)))
    if log.uploaded:
        plant("uploaded, another hash", replace(log, uploaded=(log.uploaded[0], "A" * 43)))
    plant("of another node", replace(log, node="nod_other"))
    plant("under another key", replace(log, key=STRANGER.public))


def _plant_in_lines(plant: Any, log: LogCopy, lines: list[bytes]) -> None:
    """Plants in each line that a checkpoint covers; `beyond_the_reader` has what is behind."""
    covered = log.checkpoints[-1].sequence if log.checkpoints else 0
    for at, line in enumerate(lines[:covered]):
        before, behind = lines[:at], lines[at + 1 :]
        for bit, changed in flip_bytes(line, len(line) * 2 | 1):
            if b"\n" not in changed:
                plant(f"line {at + 1}, bit {bit}", pack(log, [*before, changed, *behind]))
        event = json.loads(line)
        for name, value in event.items():
            other = compact_json({**event, name: changed_value(value)}).encode()
            plant(f"line {at + 1}, {name} changed", pack(log, [*before, other, *behind]))
            if name not in ("sequence", "prev"):
                plant(f"line {at + 1}, {name} changed, chained anew", pack(log, chain_anew([*before, other, *behind], at + 1)))
        plant(f"line {at + 1}, a member more", pack(log, [*before, compact_json({**event, "x": 1}).encode(), *behind]))
        plant(f"line {at + 1} left out", pack(log, [*before, *behind]))
        plant(f"line {at + 1} left out, chained anew", pack(log, chain_anew([*before, *behind], at)))
        plant(f"line {at + 1} twice", pack(log, [*before, line, line, *behind]))
        if at + 1 < covered:
            # After the last checkpoint, an added line cannot be detected here; see `beyond_the_reader`.
            plant(f"line {at + 1} twice, chained anew", pack(log, chain_anew([*before, line, line, *behind], at + 1)))
        plant(f"cut off in front of line {at + 1}", pack(log, before))
        if at:
            plant(f"beginning cut off in front of line {at + 1}", pack(log, lines[at:], at + 1))
        if behind:
            plant(f"lines {at + 1} and {at + 2} exchanged", pack(log, [*before, behind[0], line, *behind[1:]]))
            exchanged = chain_anew([*before, behind[0], line, *behind[1:]], at)
            plant(f"lines {at + 1} and {at + 2} exchanged, chained anew", pack(log, exchanged))
    plant("no line left", pack(log, []))


def _plant_in_rows(tally: Tally, plant: Any, log: LogCopy, lines: list[bytes]) -> None:
    for at, block in enumerate(log.blocks):
        before, behind = log.blocks[:at], log.blocks[at + 1 :]
        rows = {
            "left out": [*before, *behind],
            "first changed": [*before, replace(block, first=block.first + 1), *behind],
            "last changed": [*before, replace(block, last=block.last + 1), *behind],
            "twice": [*before, block, block, *behind],
            "empty": [*before, replace(block, lines=b""), *behind],
            "cut off": [*before, replace(block, lines=block.lines[:-1]), *behind],
            "longer": [*before, replace(block, lines=block.lines + b"\0"), *behind],
        }
        for what, changed in rows.items():
            plant(f"block {at + 1}, {what}", replace(log, blocks=changed))
        for bit, data in flip_bytes(block.lines, 509):
            row = replace(log, blocks=[*before, replace(block, lines=data), *behind])
            tally.plant(f"log: block {at + 1}, bit {bit}", lambda row=row: _check_packed(row, lines))


def _check_packed(log: LogCopy, lines: list[bytes]) -> str:
    """Another packing of the same lines is harmless: the chain is about lines."""
    check_log(log)
    return "harmless" if lines_of(log.blocks) == lines else "taken"


def _plant_in_checkpoints(plant: Any, log: LogCopy) -> None:
    rows = log.checkpoints
    plant("no checkpoint left", replace(log, checkpoints=[]))
    for at, row in enumerate(rows):
        before, behind = rows[:at], rows[at + 1 :]
        name = f"checkpoint {at + 1}"
        if behind:
            plant(f"{name} left out", replace(log, checkpoints=[*before, *behind]))
        for bit, text in flip_bytes(row.text.encode(), 97):
            changed = Row(row.sequence, text.decode("utf-8", "surrogateescape"))
            plant(f"{name}, bit {bit}", replace(log, checkpoints=[*before, changed, *behind]))
        plant(f"{name} moved", replace(log, checkpoints=[*before, Row(row.sequence + 1, row.text), *behind]))
        claims = split_claims(row.text)[1]
        forged = STRANGER.compact("audit-checkpoint+jwt", claims)
        plant(f"{name} by a stranger", replace(log, checkpoints=[*before, Row(row.sequence, forged), *behind]))
        as_anchor = replace(log, anchor=forged)
        plant(f"an anchor by a stranger in place of {name}", as_anchor)


def plant_with_key(tally: Tally, log: LogCopy, signer: Signer) -> None:
    """Signs wrong checkpoints with the node's own key: the signature holds, and what is said does not fit."""
    row = log.checkpoints[-1]
    behind = log.checkpoints[:-1]
    claims = split_claims(row.text)[1]
    changes: dict[str, dict[str, Any]] = {
        "of another node": {"iss": "nod_other"},
        "of another event": {"sequence": claims["sequence"] - 1},
        "with another hash": {"hash": "A" * 43},
        "with a number left out": {"number": claims["number"] + 1},
        "with number 0": {"number": 0},
    }
    for what, change in changes.items():
        forged = replace(log, checkpoints=[*behind, Row(row.sequence, resign(signer, row.text, **change))])
        tally.plant(f"log: checkpoint signed by the node, {what}", lambda forged=forged: check_log(forged))
    beyond = Row(row.sequence + 5, resign(signer, row.text, sequence=row.sequence + 5, number=claims["number"] + 1))
    tally.plant(
        "log: checkpoint signed by the node, beyond the end",
        lambda: check_log(replace(log, checkpoints=[*log.checkpoints, beyond])),
    )
    plain = resign(signer, row.text)
    tally.plant("log: an anchor that does not say dropped", lambda: check_log(replace(log, anchor=plain)))


@dataclass(frozen=True)
class Beyond:
    """A tampering that nothing in the database alone can show, and whether the control plane's judgement finds it."""

    tampering: str
    reason: str
    finder: str
    # None if nobody can detect it.
    was_found_there: bool | None


def beyond_the_reader(log: LogCopy) -> list[Beyond]:
    """Plants what audit.md says only others can find, and lets the control plane's rules judge it."""
    lines = [line.decode() for line in lines_of(log.blocks)]
    results: list[Beyond] = []
    cut = _cut_back(log)
    if cut is not None and first_fault(cut) is None:
        length = cut.blocks[-1].last
        results.append(
            Beyond(
                "the log cut back to its first checkpoint, with `uploaded`",
                "what is left is as it was signed; the rest leaves no trace on the host",
                "control plane: fault fork at the next event",
                _fault_above(log, lines, _next_event(lines[:length])) == "fork",
            )
        )
    longer = pack(log, [*(line.encode() for line in lines), _next_event(lines).encode()])
    if first_fault(longer) is None:
        results.append(
            Beyond(
                "an event put behind the last checkpoint, rightly chained, before the events behind it arrived above",
                "until the next checkpoint the chain is all there is, and everybody can compute it",
                "nobody (audit.md: what no checkpoint covers yet was changed before it arrived above)",
                None,
            )
        )
    tail = [line.encode() for line in lines]
    event = json.loads(tail[-1])
    tail[-1] = compact_json({**event, "time": event["time"] + 1}).encode()
    if len(log.checkpoints) > 1:
        shown = replace(pack(log, tail), checkpoints=log.checkpoints[:-1], uploaded=None)
        if first_fault(shown) is None:
            changed = [line.decode() for line in tail]
            results.append(
                Beyond(
                    "the last event changed, its checkpoint and `uploaded` taken away",
                    "no checkpoint covers it any more, and the node signs none until it is due",
                    "control plane: the line that arrives anew contradicts the one that arrived (fork)",
                    _fault_above(log, lines, changed[-1]) == "fork",
                )
            )
    return results


def _cut_back(log: LogCopy) -> LogCopy | None:
    covered = log.checkpoints[0].sequence if log.checkpoints else 0
    lines = lines_of(log.blocks)
    if not 0 < covered < len(lines):
        return None
    kept = lines[:covered]
    return replace(pack(log, kept), checkpoints=log.checkpoints[:1], uploaded=(covered, line_hash(kept[-1])))


def _next_event(lines: list[str]) -> str:
    event = json.loads(lines[-1])
    event.update(sequence=len(lines) + 1, prev=line_hash(lines[-1]), id=event["id"] + "9", time=event["time"] + 100)
    return compact_json(event)


def _fault_above(log: LogCopy, lines: list[str], line: str) -> str | None:
    """Returns the fault that a control plane which holds the genuine lines finds in one more line."""
    above = UploadedLog(log.node)
    above.take(lines, 1)
    above.take([line], json.loads(line)["sequence"])
    return above.faults[-1].kind if above.faults else None
