"""What is remembered of sessions that are over: enough to replace them, and not without end."""

from __future__ import annotations

from discoro.transport.formerkeys import KEYS, FormerKeys
from discoro.transport.greeting import MOST_PROOFS
from discoro.transport.proofs import open_proof

TRANSCRIPT = b"t" * 32


def key(number: int) -> bytes:
    return number.to_bytes(32)


def test_who_had_a_session_can_prove_it_with_each_key_it_may_be_known_by() -> None:
    former = FormerKeys(10)
    for number in (1, 2, 2):  # an OPEN whose answer was lost, and its repetition
        former.remember(b"s" * 16, key(number))
    assert b"s" * 16 in former and b"x" * 16 not in former
    expected = tuple(open_proof(key(number), TRANSCRIPT, b"s" * 16) for number in (1, 2))
    assert former.proofs(b"s" * 16, TRANSCRIPT) == expected
    assert former.proofs(b"x" * 16, TRANSCRIPT) == former.proofs(b"", TRANSCRIPT) == ()


def test_the_newest_sessions_and_the_newest_keys_of_each_are_kept() -> None:
    former = FormerKeys(2)
    for session in (b"a", b"b", b"a", b"c"):
        former.remember(session * 16, key(1))
    assert [session * 16 in former for session in (b"a", b"b", b"c")] == [True, False, True]
    for number in range(100):
        former.remember(b"a" * 16, key(number))
    proofs = former.proofs(b"a" * 16, TRANSCRIPT)
    assert len(proofs) == KEYS and 2 * KEYS <= MOST_PROOFS
    assert proofs[-1] == open_proof(key(99), TRANSCRIPT, b"a" * 16)
