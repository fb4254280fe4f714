"""What a control plane judges of the events that a node sends (log.md, "What the control plane judges of events")."""

from __future__ import annotations

from dataclasses import dataclass, field

from events import ZERO_HASH, line_hash, read_arrived_event
from refusal import Malformed


@dataclass(frozen=True)
class Arrived:
    """An event that was placed. The place before the first one is sequence 0 with the hash of zero bytes."""

    sequence: int
    hash: str
    branch: int


@dataclass(frozen=True)
class Fault:
    """A fault of a log, with the sequence at which it shows."""

    branch: int
    kind: str
    sequence: int


@dataclass
class UploadedLog:
    """The log of one node, as far as it has arrived."""

    node: str
    # Position of the log: the end of the branch that has the last line.
    last: Arrived = Arrived(0, ZERO_HASH, 0)
    branches: int = 1
    ends: dict[int, Arrived] = field(default_factory=dict)
    by_hash: dict[str, Arrived] = field(default_factory=dict)
    # Pairs of a branch and a sequence for which there is an event.
    places: set[tuple[int, int]] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)

    def take(self, lines: list[str], oldest: int) -> int:
        """Takes one body and returns the `sequence` of the answer."""
        for index, line in enumerate(lines):
            digest = line_hash(line)
            if digest in self.seen:
                continue
            try:
                event = read_arrived_event(line)
                if event["node"] != self.node:
                    raise Malformed("an event of another node")
            except Malformed:
                # The unreadable line takes the next place, because the line after it names its hash.
                self._fault("unreadable", self.last.branch, self.last.sequence + 1)
                self._keep(self.last.sequence + 1, digest, self.last.branch)
                continue
            answer = self._place(event["sequence"], event["prev"], digest, oldest, is_first=index == 0)
            if answer is not None:
                return answer
        return self.last.sequence

    def _place(self, sequence: int, prev: str, digest: str, oldest: int, *, is_first: bool) -> int | None:
        """Places one line. Returns the answer when the rest of the body is not taken."""
        last = self.last
        if sequence == last.sequence + 1 and prev == last.hash:
            self._keep(sequence, digest, last.branch)
            return None
        before = self.by_hash.get(prev)
        if before is not None and before.sequence == sequence - 1:
            if (before.branch, sequence) not in self.places:
                self._keep(sequence, digest, before.branch)
            else:
                self._begin(sequence, digest, "fork")
            return None
        if sequence == 1 and prev == ZERO_HASH:
            self._begin(sequence, digest, "restart")
            return None
        is_ahead = sequence > last.sequence + 1
        if is_ahead and oldest <= last.sequence + 1:
            return last.sequence
        if is_first and oldest < sequence:
            return 0
        self._begin(sequence, digest, "gap" if is_ahead else "broken")
        return None

    def _begin(self, sequence: int, digest: str, kind: str) -> None:
        """Begins a branch beside what is there."""
        if kind == "gap":
            branch = self.last.branch
        else:
            branch, self.branches = self.branches, self.branches + 1
        self._fault(kind, branch, sequence)
        self._keep(sequence, digest, branch)

    def _keep(self, sequence: int, digest: str, branch: int) -> None:
        arrived = Arrived(sequence, digest, branch)
        self.by_hash[digest] = arrived
        end = self.ends.get(branch)
        # A line that fills a gap does not move the end of its branch.
        self.last = self.ends[branch] = end if end and end.sequence > sequence else arrived
        self.places.add((branch, sequence))
        self.seen.add(digest)

    def _fault(self, kind: str, branch: int, sequence: int) -> None:
        self.faults.append(Fault(branch, kind, sequence))


def judge_uploads(bodies: list[tuple[list[str], int]], node: str) -> str:
    """Returns the answer to the last body, then each fault by branch."""
    log, answer = UploadedLog(node), 0
    for lines, oldest in bodies:
        answer = log.take(lines, oldest)
    faults = sorted(log.faults, key=lambda fault: fault.branch)
    return "".join([f"at {answer}", *(f", {fault.kind} at {fault.sequence}" for fault in faults)])
