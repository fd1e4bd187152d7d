"""The arithmetic of the handshake: the draft's vectors, our key schedule, labels that are used once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import cpace
import pytest
from cpace import CPace, CPaceError, CPaceRole
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from discoro.transport import proofs
from discoro.transport.proofs import (
    Keys,
    bulk_answer_proof,
    bulk_proof,
    channel_identifier,
    client_tag,
    cluster_tag,
    open_proof,
    resume_proof,
    resumed_proof,
    same_proof,
    server_tag,
    transcript,
)
from tests.transport.cpace_vectors import HIGH_BIT, HIGH_BIT_SCALAR, LOW_ORDER, RUN

KEY, TRANSCRIPT = b"k" * 32, b"t" * 32


# --- the package that we build on ------------------------------------------------------------------------------------


def side(role: CPaceRole) -> CPace:
    scalar, share, data = (
        ("ya", "Ya", "ADa") if role is CPaceRole.INITIATOR else ("yb", "Yb", "ADb")
    )
    return CPace(
        role=role, sid=RUN["sid"], ad=RUN[data], scalar=RUN[scalar], public_share=RUN[share]
    )


def test_the_generator_is_that_of_the_draft() -> None:
    assert cpace._calculate_generator(RUN["PRS"], RUN["CI"], RUN["sid"]) == RUN["g"]


@pytest.mark.parametrize(
    ("scalar", "point", "result"),
    [("ya", "g", "Ya"), ("yb", "g", "Yb"), ("ya", "Yb", "K"), ("yb", "Ya", "K")],
)
def test_scalar_multiplication_is_that_of_the_draft(scalar: str, point: str, result: str) -> None:
    assert cpace._scalar_mult_vfy(RUN[scalar], RUN[point]) == RUN[result]


@pytest.mark.parametrize(
    ("role", "share", "data"),
    [(CPaceRole.INITIATOR, "Yb", "ADb"), (CPaceRole.RESPONDER, "Ya", "ADa")],
)
def test_both_roles_derive_the_key_of_the_draft(role: CPaceRole, share: str, data: str) -> None:
    ours = side(role)
    ours.derive(RUN[share], RUN[data])

    assert ours.isk == RUN["ISK"]


@pytest.mark.parametrize("role", CPaceRole)
@pytest.mark.parametrize("point", LOW_ORDER, ids=range(7))
def test_a_share_of_low_order_is_refused(role: CPaceRole, point: bytes) -> None:
    with pytest.raises(CPaceError):
        side(role).derive(point)


@pytest.mark.parametrize(("point", "result"), HIGH_BIT, ids=range(5))
def test_the_highest_bit_of_a_share_does_not_count(point: bytes, result: bytes) -> None:
    assert cpace._scalar_mult_vfy(HIGH_BIT_SCALAR, point) == result


# --- our key schedule ------------------------------------------------------------------------------------------------


def mac(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA256 by another implementation."""
    context = HMAC(key, hashes.SHA256())
    context.update(data)
    return context.finalize()


@pytest.mark.parametrize("use", ["client confirm", "server confirm", "session resume"])
def test_the_keys_are_those_of_hkdf(use: str) -> None:
    """RFC 5869: our extract-and-expand by hand is HKDF with the salt "discoro/1 hkdf"."""
    hkdf = HKDF(hashes.SHA256(), 32, salt=b"discoro/1 hkdf", info=f"discoro/1 {use}".encode())

    keys = Keys.derived(RUN["ISK"])

    assert getattr(keys, use.split()[0 if "confirm" in use else 1]) == hkdf.derive(RUN["ISK"])


def test_the_channel_identifier_is_laid_out_as_documented() -> None:
    expected = (
        b"\x09discoro/1"
        + b"\x14tls-server-end-point"
        + b"\x20"
        + b"f" * 32
        + b"\x02\x01\x03"
        + b"\x07default"
    )

    assert channel_identifier(b"f" * 32, (1, 3), "default") == expected


def test_a_length_of_more_than_seven_bits_is_leb128() -> None:
    assert proofs._length_value(b"x" * 300) == b"\xac\x02" + b"x" * 300
    assert proofs._length_value(b"x" * 128)[:2] == b"\x80\x01"
    assert all(
        proofs._length_value(b"x" * n) == cpace._prepend_len(b"x" * n)
        for n in (0, 1, 127, 128, 16383, 16384)
    )


def test_the_cluster_tag_is_as_documented() -> None:
    assert cluster_tag("default") == hashlib.sha256(b"discoro/1 clusterdefault").digest()[:8]
    assert cluster_tag("u\u0308") == cluster_tag("ü") != cluster_tag("u")


def test_the_tags_and_proofs_are_as_documented() -> None:
    keys = Keys(b"c" * 32, b"s" * 32, KEY)
    th = transcript(b"client", b"server", b"fingerprint")
    assert th == hashlib.sha256(b"clientserverfingerprint").digest()

    assert client_tag(keys, th) == mac(b"c" * 32, th)
    assert server_tag(keys, th, b"tag") == mac(b"s" * 32, th + b"tag")
    epoch_rx = (3).to_bytes(8, "big") + (4).to_bytes(8, "big")
    assert resume_proof(KEY, th, 3, 4) == mac(KEY, b"\x10discoro/1 resume" + th + epoch_rx)
    assert resumed_proof(KEY, th, 3, 4) == mac(KEY, b"\x11discoro/1 resumed" + th + epoch_rx)
    session = b"i" * 16
    assert open_proof(KEY, th, session) == mac(KEY, b"\x0ediscoro/1 open" + th + session)
    assert bulk_proof(KEY, th, session) == mac(KEY, b"\x0ediscoro/1 bulk" + th + session)
    assert bulk_answer_proof(KEY, th, session) == mac(
        KEY, b"\x15discoro/1 bulk answer" + th + session
    )


def test_no_two_proofs_are_ever_the_same() -> None:
    """A proof for one purpose, direction, link or connection is worth nothing for another."""
    keys = Keys(KEY, KEY, KEY)
    other = b"u" * 32
    made = [
        *(resume_proof(KEY, TRANSCRIPT, e, r) for e in (1, 2) for r in (1, 2)),
        *(resumed_proof(KEY, TRANSCRIPT, e, r) for e in (1, 2) for r in (1, 2)),
        resume_proof(KEY, other, 1, 1),
        resume_proof(other, TRANSCRIPT, 1, 1),
        open_proof(KEY, TRANSCRIPT, b"1" * 16),
        open_proof(KEY, TRANSCRIPT, b"2" * 16),
        bulk_proof(KEY, TRANSCRIPT, b"1" * 16),
        bulk_answer_proof(KEY, TRANSCRIPT, b"1" * 16),
        client_tag(keys, TRANSCRIPT),
        server_tag(keys, TRANSCRIPT, client_tag(keys, TRANSCRIPT)),
    ]

    assert len(set(made)) == len(made)
    assert same_proof(made[0], bytes(made[0])) and not same_proof(made[0], made[1])


def test_every_label_is_used_once() -> None:
    folder = Path(proofs.__file__).parent
    labels: list[bytes] = []
    for name in ("proofs.py", "secret.py"):
        code = (folder / name).read_text().split('"""', 2)[2]
        labels += [match.encode() for match in re.findall(r'b"(discoro/1 ?[^"]*)"', code)]
        labels += [
            match.encode() for match in re.findall(r'b"((?:client|server|session) [a-z]+)"', code)
        ]

    assert len(labels) >= 12
    # The bare prefixes stand for themselves: the first part of CI, and what the three keys begin with.
    assert sorted(set(labels)) == sorted(labels)


def test_keys_do_not_show_themselves() -> None:
    assert "c" * 32 not in repr(Keys(b"c" * 32, b"s" * 32, KEY))
