"""Environment variables of deployments (environment.md; RFC 9180), and the key that a node is given them for."""

from __future__ import annotations

import hashlib
import hmac
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import forms
import jose
from keyset import Keyset
from refusal import Malformed, Refusal, refuse_malformed
from statement import verify_statement
from text import Value

BOUND = 524288
KEY_BOUND = 1024
TYP = "deployment-environment+jwt"
KEY_TYP = "node-encryption-key+jwt"
INFO = b"halligan deployment environment 1"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
RESERVED = frozenset(
    "AIRFLOW_CONFIG AIRFLOW_HOME BASH_ENV CACHE_DIRECTORY CONFIGURATION_DIRECTORY CREDENTIALS_DIRECTORY ENV GCONV_PATH "
    "GLIBC_TUNABLES HOME IFS INVOCATION_ID JOURNAL_STREAM LOGNAME LOGS_DIRECTORY MAINPID MANAGERPID NOTIFY_SOCKET PATH "
    "PYTHONHOME RUNTIME_DIRECTORY SHELL STATE_DIRECTORY USER WATCHDOG_PID WATCHDOG_USEC XDG_RUNTIME_DIR".split()
)
RESERVED_PREFIXES = (
    "AIRFLOW__API_AUTH__",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__CORE__AUTH_MANAGER",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_",
    "AIRFLOW__CORE__SQL_ALCHEMY_",
    "AIRFLOW__DATABASE__",
    "AIRFLOW__FAB__AUTH_",
    "AIRFLOW__WEBSERVER__SECRET_KEY",
    "HALLIGAN_",
    "LD_",
    "LISTEN_",
    "SYSTEMD_",
)

CLAIMS_TABLE = {
    "iss": forms.Member(forms.text),
    "aud": forms.Member(forms.identifier),
    "sub": forms.Member(forms.identifier),
    "node": forms.Member(forms.identifier),
    "version": forms.Member(forms.version),
    "iat": forms.Member(forms.time),
    "digest": forms.Member(forms.hash_text),
    "enc": forms.Member(forms.hash_text),
    "ciphertext": forms.Member(forms.text),
}
KEY_TABLE = {"iss": forms.Member(forms.identifier), "iat": forms.Member(forms.time), "key": forms.Member(forms.anything)}


def read_x25519(value: Value) -> bytes:
    """Reads a JWK of X25519, an open object, and rejects a point of small order: its secret is zero with every key."""
    members = forms.read_object(value, jose.JWK_TABLE, closed=False)
    if members["kty"] != "OKP" or members["crv"] != "X25519":
        raise Malformed("the key is not X25519")
    raw = forms.decode_base64url(members["x"])
    if len(raw) != 32:
        raise Malformed("x is not 32 bytes")
    try:
        X25519PrivateKey.from_private_bytes(b"\x07" * 32).exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError:
        raise Malformed("x is a point of small order") from None
    return raw


def verify_encryption_key(content: str, node: str, key: jose.PublicKey) -> str:
    """Verifies a node's statement of its key, and returns `x`."""
    try:
        if jose.is_longer_than(content, KEY_BOUND):
            raise Malformed("longer than 1024 bytes")
        signed = jose.read_compact(content, (KEY_TYP,))
        failed = jose.verify(signed, {key.kid: key})
        if failed is not None:
            raise Refusal(failed, "signature of the node")
        claims = forms.read_object(signed.claims(), KEY_TABLE, closed=True)
        if claims["iss"] != node:
            raise Malformed("iss is another node")
        return forms.encode_base64url(read_x25519(claims["key"]))
    except Malformed as error:
        raise refuse_malformed("malformed", error) from None


def _extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or b"\0" * 32, b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(prk: bytes, suite: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    # One block of HKDF suffices, because no output is longer than 32 bytes.
    return hmac.digest(prk, labelled + b"\x01", "sha256")[:length]


def open_base(private: bytes, enc: bytes, aad: bytes, sealed: bytes) -> bytes:
    """The first message of an HPKE context in base mode (RFC 9180 sections 4.1, 5.1 and 6.1)."""
    own = X25519PrivateKey.from_private_bytes(private)
    public = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    kem = b"KEM" + (0x0020).to_bytes(2, "big")
    secret = _extract(b"", kem, b"eae_prk", own.exchange(X25519PublicKey.from_public_bytes(enc)))
    shared = _expand(secret, kem, b"shared_secret", enc + public, 32)
    suite = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, 0x0003))
    context = b"\0" + _extract(b"", suite, b"psk_id_hash", b"") + _extract(b"", suite, b"info_hash", INFO)
    schedule = _extract(shared, suite, b"secret", b"")
    key = _expand(schedule, suite, b"key", context, 32)
    nonce = _expand(schedule, suite, b"base_nonce", context, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, sealed, aad)


def read_variables(plain: bytes) -> list[list[str]]:
    """Reads the plaintext: 32 bytes, then NAME=VALUE and a NUL for each variable, in the order of the names' bytes."""
    if len(plain) < 32:
        raise Malformed("shorter than what blinds the digest")
    entries, variables = plain[32:], []
    if entries and not entries.endswith(b"\0"):
        raise Malformed("does not end with NUL")
    for entry in entries.split(b"\0")[:-1]:
        try:
            name, mark, value = entry.decode("utf-8").partition("=")
        except UnicodeDecodeError:
            raise Malformed("not UTF-8") from None
        if not mark or NAME.fullmatch(name) is None or name in RESERVED or name.startswith(RESERVED_PREFIXES):
            raise Malformed("no name of a variable")
        if len(value.encode()) > 65536 or any(0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for c in value):
            raise Malformed("no value of a variable")
        if variables and variables[-1][0] >= name:
            raise Malformed("names are not in order")
        variables.append([name, value])
    if len(variables) > 500:
        raise Malformed("more than 500 variables")
    return variables


def open_environment(content: str, keyset: Keyset, data_plane: str, node: str, private: bytes) -> list[list[str]]:
    """Verifies an environment and decrypts its variables. A version that is held plays no part."""
    _, claims = verify_statement(content, keyset, data_plane, TYP, BOUND, CLAIMS_TABLE, closed=True)
    if claims["node"] != node:
        raise Refusal("node", "node is the node")
    aad = "\n".join([claims["aud"], claims["sub"], claims["node"], str(claims["version"])]).encode()
    try:
        sealed = forms.decode_base64url(claims["ciphertext"])
        plain = open_base(private, forms.decode_base64url(claims["enc"]), aad, sealed)
    except Malformed as error:
        raise refuse_malformed("text", error) from None
    except (InvalidTag, ValueError):
        raise Refusal("sealed", "encrypted to this node, for this place and version") from None
    if forms.encode_base64url(hashlib.sha256(plain).digest()) != claims["digest"]:
        raise Refusal("digest", "SHA-256 of the plaintext")
    try:
        return read_variables(plain)
    except Malformed as error:
        raise refuse_malformed("text", error) from None
