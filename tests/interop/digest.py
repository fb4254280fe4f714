"""The replica digest: LtHash with 1024 lanes of 16 bits over BLAKE3 in XOF mode (replica.md, "Replica digest")."""

from __future__ import annotations

import struct
from array import array
from typing import Iterable

import blake3

import forms
from records import Record

LANES = 1024


def record_lanes(record: Record) -> tuple[int, ...]:
    """Hashes one record to its 1024 numbers."""
    hasher = blake3.blake3()
    for part in (record.kind, record.key, record.body):
        data = part.encode("utf-8")
        hasher.update(struct.pack("<Q", len(data)) + data)
    return struct.unpack(f"<{LANES}H", hasher.digest(length=2 * LANES))


class Digest:
    """The sum of a set of records. It does not show that a record stands once: callers check that first."""

    def __init__(self, lanes: Iterable[int] | None = None) -> None:
        self.lanes = list(lanes) if lanes is not None else [0] * LANES

    def copy(self) -> "Digest":
        """Returns a digest that can be changed apart from this one."""
        return Digest(self.lanes)

    def add(self, record: Record) -> None:
        """Adds the numbers of a record, lane by lane, modulo 2^16."""
        self.lanes = [(lane + number) & 0xFFFF for lane, number in zip(self.lanes, record_lanes(record))]

    def remove(self, record: Record) -> None:
        """Subtracts the numbers of a record."""
        self.lanes = [(lane - number) & 0xFFFF for lane, number in zip(self.lanes, record_lanes(record))]

    def checksum(self) -> str:
        """BLAKE3 over the lanes, little-endian, in base64url: the `digest` of a head."""
        return forms.encode_base64url(blake3.blake3(struct.pack(f"<{LANES}H", *self.lanes)).digest())


def digest_records(records: Iterable[Record]) -> Digest:
    """Sums records from scratch."""
    total = array("L", [0]) * LANES
    for record in records:
        for lane, number in enumerate(record_lanes(record)):
            total[lane] += number
    return Digest(number & 0xFFFF for number in total)
