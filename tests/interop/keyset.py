"""Keysets and heads, as docs/protocol/replica.md says."""

from jose import compact, header, jwk_key, jwk_shape, signers, thumbprint
from text import (
    Refused,
    Table,
    array,
    base64url,
    count,
    digest,
    identifier,
    one_of,
    text,
    time,
    u32,
    version,
)

_GENERAL = Table(
    True,
    payload=(text, "required"),
    signatures=(array(Table(True, protected=(text, "required"), signature=(text, "required"))), "required"),
)
_KEY = Table(True, use=(one_of("token", "replica"), "required"), jwk=(jwk_shape, "required"))
_PAYLOAD = Table(
    True,
    iss=(text, "optional"),
    version=(version, "required"),
    iat=(time, "required"),
    exp=(time, "required"),
    keys=(array(_KEY), "required"),
    roots=(array(jwk_shape), "required"),
    threshold=(u32, "required"),
)


class Roots:
    """Root keys and how many of them must sign."""

    def __init__(self, keys, threshold):
        self.keys = {thumbprint(key): key for key in keys}
        self.threshold = threshold
        if len(self.keys) != len(keys) or not 1 <= threshold <= len(keys):
            raise Refused("unreachable")

    def signed(self, general):
        if len(signers(general, "keyset+jwt", self.keys)) < self.threshold:
            raise Refused("threshold")


class Keyset:
    """A keyset that was proved."""

    def __init__(self, general):
        body = _PAYLOAD.read(base64url(general["payload"]))
        self.payload = general["payload"]
        self.iss = body.get("iss")
        self.version, self.exp = body["version"], body["exp"]
        self.keys = {"token": {}, "replica": {}}
        for entry in body["keys"]:
            key = jwk_key(entry["jwk"])
            self.keys[entry["use"]][thumbprint(key)] = key
        self.roots = Roots([jwk_key(jwk) for jwk in body["roots"]], body["threshold"])


def general(source):
    """Reads a keyset that nobody vouches for."""
    if len(source.encode()) > 65536:
        raise Refused("malformed", "too long")
    return _GENERAL.read(source)


def first(source, pinned):
    """The first keyset of a host that pins roots."""
    parts = general(source)
    pinned.signed(parts)
    return Keyset(parts)


def following(source, before):
    """The keyset after another one."""
    parts = general(source)
    before.roots.signed(parts)
    keyset = Keyset(parts)
    keyset.roots.signed(parts)
    if keyset.version != before.version + 1:
        raise Refused("version")
    return keyset


def stated_version(source):
    """The version that a keyset states, whoever signed it."""
    return _PAYLOAD.read(base64url(general(source)["payload"]))["version"]


def earliest(sources, pinned):
    """The earliest keyset that the pinned roots signed, and its place."""
    refused = Refused("malformed", "no keyset")
    for place, source in enumerate(sources):
        try:
            return first(source, pinned), place
        except Refused as error:
            if error.code != "threshold":
                raise
            refused = refused if place else error
    raise refused


def chain(sources, pinned):
    """The last keyset of a chain."""
    keyset, place = earliest(sources, pinned)
    for source in sources[place + 1 :]:
        keyset = following(source, keyset)
    return keyset


_HEAD = Table(
    False,
    iss=(text, "required"),
    aud=(identifier, "required"),
    version=(version, "required"),
    digest=(digest, "required"),
    count=(count, "required"),
    iat=(time, "required"),
    exp=(time, "required"),
    keyset=(version, "required"),
    nonce=(text, "optional"),
)


def head(source, keyset, data_plane):
    """The claims of a head for a data plane."""
    try:
        _, _, payload = compact(source, ("replica-head+jwt",), keyset.keys["replica"], 4096)
    except Refused as error:
        raise Refused("malformed" if error.code == "too_large" else error.code, str(error)) from None
    claims = _HEAD.read(payload)
    if keyset.iss is not None and claims["iss"] != keyset.iss:
        raise Refused("issuer")
    if claims["aud"] != data_plane:
        raise Refused("audience")
    return claims


def head_kid(source):
    """The key that a head names."""
    return header(source.split(".")[0])[1]
