"""Reads what a daemon that has stopped left in its state directory.

The document names the files and the table `block`. The other tables are read by the names that the databases themselves show.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jose
import sign
from log import Block, LogCopy, Row
from records import Record


@dataclass
class RevocationRow:
    """A local revocation as it is kept, beside the node and token that the row says it is about."""

    node: str
    token: str
    text: str


@dataclass
class State:
    """The parts of a state directory that the protocol speaks of."""

    node: str
    data_plane: str
    issuer: str
    signer: sign.Signer
    keysets: list[str]
    stored_keysets: list[str]
    head: str
    records: list[Record]
    role_digests: dict[str, str]
    revocations: list[RevocationRow]
    log: LogCopy


def query(directory: Path, database: str, statement: str) -> list[tuple[Any, ...]]:
    """Reads from a copy: opening a database may write to it, and a log of write-ahead pages beside it belongs to it."""
    with tempfile.TemporaryDirectory() as scratch:
        for file in directory.glob(f"{database}*"):
            shutil.copy(file, scratch)
        connection = sqlite3.connect(Path(scratch) / database)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()


def load_state(directory: Path) -> State:
    """Reads a state directory."""
    identity = json.loads((directory / "node.json").read_text("utf-8"))
    signer = sign.load_private(directory / "node.pem")
    key = jose.PublicKey(signer.public.raw, signer.public.kid)
    anchors = query(directory, "audit.db", "SELECT text FROM anchor")
    uploaded = query(directory, "audit.db", "SELECT sequence, hash FROM uploaded")
    log = LogCopy(
        identity["nodeId"],
        key,
        [Block(*row) for row in query(directory, "audit.db", "SELECT first, last, lines FROM block ORDER BY first")],
        [Row(*row) for row in query(directory, "audit.db", "SELECT sequence, text FROM checkpoint ORDER BY sequence")],
        anchors[0][0] if anchors else None,
        uploaded[0] if uploaded else None,
    )
    return State(
        identity["nodeId"],
        identity["dataPlaneId"],
        identity["issuer"],
        signer,
        (directory / "replica.keysets").read_text("utf-8").splitlines(),
        [row[0] for row in query(directory, "replica.db", "SELECT text FROM keyset ORDER BY version")],
        query(directory, "replica.db", "SELECT text FROM head")[0][0],
        [Record(*row) for row in query(directory, "replica.db", "SELECT kind, key, body FROM record")],
        {
            key: proved.decode("ascii")
            for key, proved in query(directory, "replica.db", "SELECT key, proved FROM ledger WHERE kind = 'role'")
        },
        [RevocationRow(*row) for row in query(directory, "revocations.db", "SELECT node, token, text FROM revocation")],
        log,
    )
