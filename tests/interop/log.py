"""Whether a node's log is whole (log.md, "Checkpoint"; audit.md).

Every fault is named by the sequence of the event at which it shows when the log is read from its beginning, and the first one is
the answer. So an edited line is named by the event behind it, whose `prev` no longer fits, unless a checkpoint covers the edited
line itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable

import jose
from events import ZERO_HASH, Checkpoint, line_hash, read_own_event, verify_checkpoint
from lz4 import decode_block
from refusal import Malformed

EVENTS_PER_CHECKPOINT = 10_000
SECONDS_PER_CHECKPOINT = 60


@dataclass(frozen=True)
class Block:
    """One row of the table `block`."""

    first: int
    last: int
    lines: bytes


@dataclass(frozen=True)
class Row:
    """A checkpoint as it is kept: under the sequence it is said to cover."""

    sequence: int
    text: str


@dataclass
class LogCopy:
    """All that a node's database holds of its log."""

    node: str
    key: jose.PublicKey
    blocks: list[Block]
    checkpoints: list[Row]
    anchor: str | None
    uploaded: tuple[int, str] | None


def first_fault(log: LogCopy) -> int | None:
    """Returns the first event at which the log is not whole, or None."""
    return _Verifier(log).run()


class _Verifier:
    def __init__(self, log: LogCopy) -> None:
        self.log = log
        self.faults: set[int] = set()
        self.lines: dict[int, bytes] = {}
        self.events: dict[int, dict[str, Any]] = {}
        self.signed: dict[int, Checkpoint] = {}
        self.start, self.prev, self.number = 1, ZERO_HASH, 0
        self.next, self.anchored_at = 1, 0

    def run(self) -> int | None:
        self._read_anchor()
        if self.faults:
            # Without a valid anchor the beginning of this log is unknown.
            return min(self.faults)
        self._read_blocks()
        self._read_checkpoints()
        self._check_hashes()
        self._check_overdue()
        self._check_uploaded()
        return min(self.faults) if self.faults else None

    def _read_anchor(self) -> None:
        if self.log.anchor is None:
            return
        try:
            anchor = verify_checkpoint(self.log.anchor, self.log.node, self.log.key)
        except Malformed:
            self.faults.add(1)
            return
        # A log may lack its beginning only if the anchor says `dropped`.
        if not anchor.dropped:
            self.faults.add(anchor.sequence)
        self.start, self.prev, self.number = anchor.sequence + 1, anchor.hash, anchor.number
        self.anchored_at = anchor.issued_at

    def _read_blocks(self) -> None:
        self.next = self.start
        for block in self.log.blocks:
            if block.first != self.next:
                self.faults.add(self.next)
            first = self.next
            try:
                content = decode_block(block.lines)
                if not content.endswith(b"\n"):
                    raise Malformed("a block whose last line has no LF")
            except Malformed:
                self.faults.add(first)
                # The lines after this block keep their places, so that their faults are not attributed to this block.
                self.next = max(first, block.last + 1)
                continue
            for line in content[:-1].split(b"\n"):
                self._read_line(line)
            if block.last != self.next - 1:
                self.faults.add(first)

    def _read_line(self, line: bytes) -> None:
        place = self.next
        self.next += 1
        self.lines[place] = line
        try:
            event = read_own_event(line)
            if event["sequence"] != place or event["node"] != self.log.node:
                raise Malformed("an event in another place, or of another node")
            self.events[place] = event
        except Malformed:
            self.faults.add(place)

    def _read_checkpoints(self) -> None:
        number, last = self.number, self.start - 1
        for row in self.log.checkpoints:
            try:
                checkpoint = verify_checkpoint(row.text, self.log.node, self.log.key)
                again = row.sequence == last and checkpoint.number == number and number > 0
                if checkpoint.sequence != row.sequence or row.sequence < last:
                    raise Malformed("a checkpoint under another event")
                if not again and checkpoint.number != number + 1:
                    raise Malformed("a checkpoint is missing before this one")
                self.signed[row.sequence] = checkpoint
                number, last = checkpoint.number, row.sequence
            except Malformed:
                self.faults.add(row.sequence)
                number, last = number + 1, row.sequence
        covered = max(self.signed, default=0)
        if covered >= self.next:
            # The log ends before the last signed event.
            self.faults.add(self.next)

    def _check_hashes(self) -> None:
        """Walks from the beginning, and compares each `prev` with the hash of the line before."""
        before = self.prev
        for place in range(self.start, self.next):
            event = self.events.get(place)
            if event is not None and event["prev"] != before:
                self.faults.add(place)
            before = line_hash(self.lines.get(place, b""))
            checkpoint = self.signed.get(place)
            if checkpoint is not None and checkpoint.hash != before:
                self.faults.add(place)

    def _check_overdue(self) -> None:
        """Finds events without the checkpoint that the node would have signed by then."""
        if self.next == self.start:
            return
        if not self.log.checkpoints and self.number == 0:
            self.faults.add(self.start)
            return
        if self.log.checkpoints and not self.signed:
            # Each of these checkpoints has already been reported as a fault.
            return
        covered = max(self.signed, default=self.start - 1)
        due = (self.signed[covered].issued_at if self.signed else self.anchored_at) + SECONDS_PER_CHECKPOINT
        for place in range(covered + 1, self.next):
            late = place in self.events and self.events[place]["time"] >= due
            if late or place - covered >= EVENTS_PER_CHECKPOINT:
                self.faults.add(place)
                return

    def _check_uploaded(self) -> None:
        if self.log.uploaded is None:
            if self.start > 1:
                self.faults.add(1)
            return
        sequence, expected = self.log.uploaded
        if sequence >= self.next:
            self.faults.add(self.next)
        elif sequence >= self.start:
            if line_hash(self.lines.get(sequence, b"")) != expected:
                self.faults.add(sequence)
        elif sequence == self.start - 1:
            if expected != self.prev:
                self.faults.add(sequence)
        else:
            # The node never drops an event that the control plane has not taken in.
            self.faults.add(sequence + 1)


def lines_of(blocks: Iterable[Block]) -> list[bytes]:
    """Returns all lines of a log in their order."""
    return [line for block in blocks for line in decode_block(block.lines)[:-1].split(b"\n")]
