"""The handshake without a socket: both roles, every attack of the study, and no other error than the documented."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from discoro.transport.errors import (
    AuthenticationFailed,
    Busy,
    FrameTooBig,
    ProtocolError,
    TransportError,
    VersionMismatch,
)
from discoro.transport.handshake import (
    ClientHandshake,
    FailCode,
    FrameType,
    OtherCluster,
    ServerHandshake,
    ShuttingDown,
)
from discoro.transport.limits import Limits
from tests.transport.cpace_vectors import LOW_ORDER

PRS, OTHER_PRS = b"p" * 32, b"q" * 32
CERTIFICATE, OTHER_CERTIFICATE = b"f" * 32, b"g" * 32
HELLO_FRAME, CONFIRM_FRAME = 4 + 80, 4 + 32
LONGEST_FRAME = HELLO_FRAME

Handshake = ClientHandshake | ServerHandshake


def client(
    prs: bytes = PRS,
    fingerprint: bytes = CERTIFICATE,
    cluster: str = "default",
    versions: tuple[int, int] = (1, 1),
) -> ClientHandshake:
    return ClientHandshake(
        prs, fingerprint, cluster, os.urandom, 0.0, who="10.0.0.1:9", versions=versions
    )


def server(
    prs: bytes = PRS,
    fingerprint: bytes = CERTIFICATE,
    cluster: str = "default",
    versions: tuple[int, int] = (1, 1),
    admit: Callable[[], float | None] | None = None,
) -> ServerHandshake:
    return ServerHandshake(
        prs, fingerprint, cluster, os.urandom, 0.0, versions=versions, admit=admit
    )


def run(one: ClientHandshake, other: ServerHandshake) -> list[bytes]:
    """Carry bytes to and fro until nobody has any; returns what was sent, in turns, the client's first."""
    sent: list[bytes] = []
    ends: list[Handshake] = [one, other]
    while data := ends[0].data_to_send():
        sent.append(data)
        ends.reverse()
        if ends[0].done is None:
            ends[0].receive_data(data)
    return sent


def error(handshake: Handshake) -> TransportError:
    assert handshake.done is None
    assert handshake.failed is not None
    return handshake.failed


# --- what works ------------------------------------------------------------------------------------------------------


def test_both_ends_accept_and_hold_the_same_key() -> None:
    one, other = client(), server()

    sent = run(one, other)

    assert one.done is not None and one.done == other.done
    assert len(one.done.key) == len(one.done.transcript) == 32
    assert one.done.version == 1 and one.done.leftover == b""
    assert one.failed is None and other.failed is None
    assert [len(data) for data in sent] == [HELLO_FRAME, HELLO_FRAME, CONFIRM_FRAME, CONFIRM_FRAME]


def test_every_handshake_has_its_own_key_and_transcript() -> None:
    keys = set()
    for _ in range(5):
        one = client()
        run(one, server())
        assert one.done is not None
        keys |= {one.done.key, one.done.transcript}

    assert len(keys) == 10


def test_the_bytes_on_the_wire_never_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded with fixed randomness; changing them breaks peers already deployed."""
    scalars = iter([b"\x11" * 32, b"\x22" * 32])
    monkeypatch.setattr("cpace.secrets.token_bytes", lambda count: next(scalars))
    one = ClientHandshake(PRS, CERTIFICATE, "default", lambda count: b"c" * count, 0.0)
    other = ServerHandshake(PRS, CERTIFICATE, "default", lambda count: b"s" * count, 0.0)

    sent = run(one, other)

    assert one.done is not None and one.done == other.done
    assert [data.hex() for data in (*sent, one.done.key, one.done.transcript)] == RECORDED


RECORDED = [
    "010000504453433101010000988726a8c06f18fe63636363636363636363636363636363636363636363636363636363"
    "6363636307ab498a91fb1652f1fbc7e365158a6183a054123d8ab39bec7b718bcf1c481e",
    "020000504453433101010000988726a8c06f18fe73737373737373737373737373737373737373737373737373737373"
    "737373734a43f656ceb32e666eeabfc628156d4ccf2adc98698a45134071a7170e160e56",
    "030000202e791f6e9a8f693061ec145001ccddc25132b2062c13d6d3566cf0c27a9895c8",
    "0400002070d844781b3435e30a61726ad7655c2ef49d7d6cf23f3fe500ada5bf527424cf",
    "959f315f9484ea7ae43eb4867054feb3a8dcbc3614a0bd3037ede2655f2bdf3d",
    "2b375076bc84b797908356a9ef141f066f20a3ff0a194790bb79af12156e5ecd",
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 83, 84, 85])
def test_any_chunking_of_the_stream_will_do(size: int) -> None:
    one, other = client(), server()
    for _ in range(2):
        for sender, receiver in ((one, other), (other, one)):
            data = sender.data_to_send()
            for start in range(0, len(data), size):
                receiver.receive_data(data[start : start + size])

    assert one.done is not None and one.done == other.done


def test_the_server_is_silent_until_a_whole_hello_is_there() -> None:
    """No banner for scanners."""
    hello, other = client().data_to_send(), server()
    assert other.data_to_send() == b""

    other.receive_data(hello[:-1])
    assert other.data_to_send() == b"" and other.failed is None

    other.receive_data(hello[-1:])
    assert len(other.data_to_send()) == HELLO_FRAME


def test_what_stands_behind_the_servers_proof_is_handed_on() -> None:
    one, other = client(), server()
    other.receive_data(one.data_to_send())
    one.receive_data(other.data_to_send())
    other.receive_data(one.data_to_send())

    one.receive_data(other.data_to_send() + b"first bytes of the session")

    assert one.done is not None and one.done.leftover == b"first bytes of the session"


def test_bytes_after_the_end_belong_to_the_session() -> None:
    one, other = client(), server()
    run(one, other)
    for end in (one, other):
        with pytest.raises(RuntimeError, match="belong to the session"):
            end.receive_data(b"x")


def test_the_key_does_not_show_itself() -> None:
    one = client()
    run(one, server())
    assert one.done is not None

    assert repr(one.done) == "<Accepted version 1>"


# --- who does not know the secret ------------------------------------------------------------------------------------


def test_a_client_with_a_wrong_secret_is_told_and_counted_by_the_server() -> None:
    one, other = client(prs=OTHER_PRS), server()

    sent = run(one, other)

    assert isinstance(error(one), AuthenticationFailed) and "10.0.0.1:9" in str(one.failed)
    assert isinstance(error(other), AuthenticationFailed)
    assert len(sent) == 4 and sent[3][0] == FrameType.FAIL


def test_a_server_that_does_not_know_the_secret_is_found_out_even_if_it_accepts_ours() -> None:
    """A false server says yes to everything."""
    one, false = client(), server(prs=OTHER_PRS)
    false.receive_data(one.data_to_send())
    one.receive_data(false.data_to_send())

    one.receive_data(bytes((FrameType.SERVER_CONFIRM, 0, 0, 32)) + os.urandom(32))

    assert isinstance(error(one), AuthenticationFailed) and "impostor" in str(one.failed)


def test_the_server_shows_no_proof_before_it_has_seen_one() -> None:
    one, other = client(prs=OTHER_PRS), server()

    sent = run(one, other)

    assert [data[0] for data in sent[1::2]] == [FrameType.SERVER_HELLO, FrameType.FAIL]


def test_a_relay_with_its_own_certificate_fails_on_both_ends() -> None:
    """It forwards every byte; the client has seen another certificate than the server's."""
    one, other = client(fingerprint=OTHER_CERTIFICATE), server(fingerprint=CERTIFICATE)

    run(one, other)

    assert isinstance(error(one), AuthenticationFailed)
    assert isinstance(error(other), AuthenticationFailed)


def test_a_relay_that_makes_up_the_refusals_gets_no_further() -> None:
    """Between two ends with the same secret: it swallows FAIL and sends proofs of its own making."""
    one, other = client(fingerprint=OTHER_CERTIFICATE), server(fingerprint=CERTIFICATE)
    other.receive_data(one.data_to_send())
    one.receive_data(other.data_to_send())
    proof = one.data_to_send()
    other.receive_data(proof)

    one.receive_data(bytes((FrameType.SERVER_CONFIRM,)) + proof[1:])

    assert isinstance(error(one), AuthenticationFailed)
    assert isinstance(error(other), AuthenticationFailed)


@pytest.mark.parametrize("as_server", [True, False], ids=["as they are", "as a server's"])
def test_our_own_frames_sent_back_are_refused(as_server: bool) -> None:
    one = client()
    hello = one.data_to_send()
    if as_server:
        hello = bytes((FrameType.SERVER_HELLO,)) + hello[1:]

    one.receive_data(hello)

    assert isinstance(error(one), ProtocolError)
    assert one.data_to_send() == b""


def test_our_own_proof_sent_back_is_refused() -> None:
    one, other = client(), server()
    other.receive_data(one.data_to_send())
    one.receive_data(other.data_to_send())

    one.receive_data(bytes((FrameType.SERVER_CONFIRM,)) + one.data_to_send()[1:])

    assert isinstance(error(one), AuthenticationFailed)


def test_a_reflected_share_under_another_nonce_proves_nothing() -> None:
    one = client()
    hello = bytearray(one.data_to_send())
    hello[0] = FrameType.SERVER_HELLO
    hello[20] ^= 1  # a byte of the nonce

    one.receive_data(hello)
    proof = one.data_to_send()
    one.receive_data(bytes((FrameType.SERVER_CONFIRM,)) + proof[1:])

    assert isinstance(error(one), AuthenticationFailed)


def test_a_recorded_handshake_replayed_to_the_server_fails() -> None:
    recorded = run(client(), server())

    other = server()
    other.receive_data(recorded[0])
    other.receive_data(recorded[2])

    assert isinstance(error(other), AuthenticationFailed)


def test_a_recorded_handshake_replayed_to_the_client_fails() -> None:
    recorded = run(client(), server())

    one = client()
    one.receive_data(recorded[1])
    one.receive_data(recorded[3])

    assert isinstance(error(one), AuthenticationFailed)


@pytest.mark.parametrize("point", LOW_ORDER, ids=range(7))
@pytest.mark.parametrize("role", ["client", "server"])
def test_a_share_of_low_order_ends_the_handshake(role: str, point: bytes) -> None:
    one, other = client(), server()
    hello = one.data_to_send()
    if role == "server":
        other.receive_data(hello[:-32] + point)
        attacked: Handshake = other
    else:
        other.receive_data(hello)
        one.receive_data(other.data_to_send()[:-32] + point)
        attacked = one

    assert isinstance(error(attacked), ProtocolError)
    assert attacked.data_to_send() == b""


@pytest.mark.parametrize("position", range(HELLO_FRAME))
def test_a_change_of_any_bit_of_a_hello_on_the_way_is_noticed(position: int) -> None:
    """Magic, versions, flags, cluster, nonce and share of both hellos are under both proofs."""
    for turn in (0, 1):
        one, other = client(versions=(1, 3)), server(versions=(1, 3))
        ends: list[Handshake] = [one, other]
        for step in range(4):
            data = bytearray(ends[step % 2].data_to_send())
            if step == turn and data:
                data[position] ^= 1 << position % 8
            receiver = ends[(step + 1) % 2]
            if receiver.done is None:
                receiver.receive_data(data)
        # The highest bit of a share does not count as a number (RFC 7748), but it is in the transcript.
        assert one.done is None and other.done is None, turn


# --- versions and clusters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [((1, 1), (1, 1), 1), ((1, 2), (1, 3), 2), ((2, 4), (1, 3), 3), ((3, 3), (1, 3), 3)],
)
def test_the_highest_version_of_both_is_spoken(
    ours: tuple[int, int], theirs: tuple[int, int], agreed: int
) -> None:
    one, other = client(versions=ours), server(versions=theirs)

    run(one, other)

    assert one.done is not None and one.done == other.done
    assert one.done.version == agreed


@pytest.mark.parametrize("prs", [PRS, OTHER_PRS], ids=["same secret", "other secret"])
def test_versions_that_do_not_meet_are_told_as_such(prs: bytes) -> None:
    one, other = client(prs, versions=(1, 1)), server(versions=(2, 3))

    run(one, other)

    for end, mine, yours in ((one, "1", "2 to 3"), (other, "2 to 3", "1")):
        failure = error(end)
        assert isinstance(failure, VersionMismatch)
        assert (failure.ours, failure.theirs) == (mine, yours)


def test_nobody_talks_two_ends_down_to_an_older_version() -> None:
    one, other = client(versions=(1, 3)), server(versions=(1, 3))
    hello = bytearray(one.data_to_send())
    assert hello[8:10] == b"\x01\x03"
    hello[9] = 1
    other.receive_data(hello)
    one.receive_data(other.data_to_send())
    other.receive_data(one.data_to_send())

    assert isinstance(error(other), AuthenticationFailed)


@pytest.mark.parametrize("chosen", [b"\x02\x02", b"\x00\x00", b"\x01\x02"])
def test_a_server_that_chooses_what_was_not_offered_is_refused(chosen: bytes) -> None:
    one, other = client(), server()
    other.receive_data(one.data_to_send())
    hello = bytearray(other.data_to_send())
    hello[8:10] = chosen

    one.receive_data(hello)

    assert isinstance(error(one), ProtocolError)


@pytest.mark.parametrize("prs", [PRS, OTHER_PRS], ids=["same secret", "other secret"])
def test_another_cluster_is_told_as_such_and_never_as_a_wrong_secret(prs: bytes) -> None:
    one, other = client(prs, cluster="red"), server(cluster="blue")

    run(one, other)

    for end, name in ((one, "red"), (other, "blue")):
        failure = error(end)
        assert isinstance(failure, OtherCluster) and failure.ours == name
        assert "--cluster" in str(failure)


def test_a_server_of_another_cluster_that_does_not_say_so_is_told_all_the_same() -> None:
    one, other = client(cluster="red"), server(cluster="blue")
    asked = bytearray(one.data_to_send())
    asked[12:20] = other._tag
    other.receive_data(asked)

    one.receive_data(other.data_to_send())

    assert isinstance(error(one), OtherCluster)


def test_a_cluster_is_under_the_proof_even_where_its_tag_is_forged() -> None:
    one, other = client(cluster="red"), server(cluster="blue")
    asked = bytearray(one.data_to_send())
    asked[12:20] = other._tag
    other.receive_data(asked)
    answer = bytearray(other.data_to_send())
    answer[12:20] = one._tag
    one.receive_data(answer)
    other.receive_data(one.data_to_send())

    assert isinstance(error(other), AuthenticationFailed)


def test_the_server_names_no_cluster() -> None:
    one, other = client(cluster="red"), server(cluster="blue")

    sent = run(one, other)

    assert sent[1] == bytes((FrameType.FAIL, 0, 0, 8, 0, 0, 0, FailCode.OTHER_CLUSTER, 0, 0, 0, 0))


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_source_that_has_to_wait_is_told_how_long_before_any_arithmetic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = client(), server(admit=lambda: 1.25)

    def no_arithmetic(*args: object, **kwargs: object) -> None:
        raise AssertionError("CPace was started for a source that has to wait")

    monkeypatch.setattr("discoro.transport.handshake.CPace.start", no_arithmetic)
    run(one, other)

    for end in (one, other):
        failure = error(end)
        assert isinstance(failure, Busy) and failure.retry_in == 1.25


def test_an_admitted_source_is_asked_for_once() -> None:
    asked = []
    one, other = client(), server(admit=lambda: asked.append(1))

    run(one, other)

    assert one.done is not None and asked == [1]


def test_a_connection_too_many_is_told_to_come_back() -> None:
    one, other = client(), server()

    other.refuse_busy(0.5)
    one.receive_data(other.data_to_send())

    failure = error(one)
    assert isinstance(failure, Busy) and failure.retry_in == 0.5
    assert isinstance(other.failed, Busy)
    other.receive_data(b"ignored")
    assert other.data_to_send() == b""


def test_a_server_that_is_ending_says_so() -> None:
    one, other = client(), server()

    other.refuse_closing()
    one.receive_data(other.data_to_send())

    assert isinstance(error(one), ShuttingDown)


def test_a_false_server_cannot_make_us_wait_for_weeks() -> None:
    one, other = client(), server()
    other.refuse_busy(1e9)
    one.receive_data(other.data_to_send())

    assert isinstance(one.failed, Busy) and one.failed.retry_in == 60.0


def test_a_refusal_is_heard_after_our_proof_too() -> None:
    one, other = client(), server()
    other.receive_data(one.data_to_send())
    one.receive_data(other.data_to_send())
    fail = bytes((FrameType.FAIL, 0, 0, 8, 0, 0, 0, FailCode.SHUTTING_DOWN, 0, 0, 0, 0))

    one.receive_data(fail)

    assert isinstance(error(one), ShuttingDown)


def test_an_unknown_refusal_is_a_protocol_error() -> None:
    one = client()
    one.receive_data(bytes((FrameType.FAIL, 0, 0, 8, 0, 0, 0, 99, 0, 0, 0, 0)))

    assert isinstance(error(one), ProtocolError) and "99" in str(one.failed)


# --- broken streams --------------------------------------------------------------------------------------------------


def streams() -> dict[str, tuple[Callable[[], Handshake], bytes]]:
    """Per role: how to make it, and what its peer sends in a good handshake (another one's: never accepted)."""
    sent = run(client(), server())
    return {"client": (client, sent[1] + sent[3]), "server": (server, sent[0] + sent[2])}


STREAMS = streams()
ROLES = pytest.mark.parametrize("role", ["client", "server"])


@ROLES
def test_an_end_of_the_stream_at_any_byte_is_an_error_and_a_stall_is_none(role: str) -> None:
    make, stream = STREAMS[role]
    for cut in range(len(stream)):
        end = make()
        end.data_to_send()
        feed(end, stream[:cut])
        assert end.done is None and end.failed is None, cut
        end.receive_eof()
        assert isinstance(error(end), ProtocolError)
        end.receive_data(stream)
        assert end.done is None


@ROLES
def test_a_stall_at_any_byte_ends_at_the_deadline(role: str) -> None:
    make, stream = STREAMS[role]
    for cut in range(0, len(stream), 7):
        end = make()
        feed(end, stream[:cut])
        assert end.deadline == Limits().handshake_timeout
        end.handle_deadline(end.deadline - 0.01)
        assert end.failed is None
        end.handle_deadline(end.deadline)
        assert isinstance(error(end), ProtocolError) and "too long" in str(end.failed)


def feed(end: Handshake, stream: bytes) -> None:
    """Give the frames one by one, as a peer that waits for answers sends them."""
    for part in (stream[:HELLO_FRAME], stream[HELLO_FRAME:]):
        if part:
            end.receive_data(part)


@ROLES
@pytest.mark.parametrize("length", [0, 1, 79, 81, 82, 1024, 65535])
def test_a_wrong_length_is_refused_after_four_bytes(role: str, length: int) -> None:
    make, stream = STREAMS[role]
    end = make()

    end.receive_data(stream[:2] + length.to_bytes(2, "big"))

    failure = error(end)
    assert isinstance(failure, FrameTooBig if length > 80 else ProtocolError)


@ROLES
def test_every_type_that_is_not_expected_is_refused_after_four_bytes(role: str) -> None:
    make, stream = STREAMS[role]
    allowed = {FrameType.SERVER_HELLO, FrameType.FAIL} if role == "client" else {1}
    for kind in set(range(256)) - allowed:
        end = make()
        end.receive_data(bytes((kind, 0)) + stream[2:4])
        assert isinstance(error(end), ProtocolError), kind


@ROLES
def test_a_proof_before_the_hello_is_refused(role: str) -> None:
    make, stream = STREAMS[role]
    end = make()

    end.receive_data(stream[HELLO_FRAME:])

    assert isinstance(error(end), ProtocolError)


@ROLES
@pytest.mark.parametrize(
    ("position", "value"),
    [(1, 1), (4, 0x58), (7, 0x32), (8, 0), (8, 2), (10, 1), (11, 1)],
    ids=["zero", "magic", "magic end", "version 0", "version order", "flags", "flags low"],
)
def test_an_altered_field_of_a_hello_is_a_protocol_error(
    role: str, position: int, value: int
) -> None:
    make, stream = STREAMS[role]
    hello = bytearray(stream[:HELLO_FRAME])
    assert hello[position] != value
    hello[position] = value
    end = make()

    end.receive_data(hello)

    assert isinstance(error(end), ProtocolError)


@pytest.mark.parametrize("more", [b"x", b"\0" * 24, b"x" * 70_000])
def test_a_client_that_sends_ahead_of_the_servers_proof_is_refused(more: bytes) -> None:
    """What a client may only say to a proved server must not stand behind its own proof already."""
    one, other = client(), server()
    other.receive_data(one.data_to_send())
    one.receive_data(other.data_to_send())

    other.receive_data(one.data_to_send() + more)

    assert isinstance(error(other), ProtocolError)
    assert other.data_to_send() == b""


@ROLES
def test_more_behind_a_hello_is_refused(role: str) -> None:
    make, stream = STREAMS[role]
    end = make()

    end.receive_data(stream[:HELLO_FRAME] + b"x")

    assert isinstance(error(end), ProtocolError)


@ROLES
@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000,
        b"\xff" * 1000,
    ],
    ids=["pickle", "http", "ssh", "tls", "zeros", "ones"],
)
def test_other_protocols_are_refused(role: str, data: bytes) -> None:
    end = STREAMS[role][0]()

    end.receive_data(data)

    assert isinstance(error(end), ProtocolError)


def mutated(rng: random.Random, stream: bytes) -> bytes:
    """Return a stream with a few things wrong, or noise."""
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(600))
    data = bytearray(stream)
    for _ in range(rng.randrange(5)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                data[at:at] = rng.randbytes(rng.randrange(1, 40))
            case 2:
                del data[at : at + rng.randrange(1, 40)]
            case 3:
                data[at:at] = data[: rng.randrange(len(data) + 1)]
            case _:
                del data[at:]
        if not data:
            data += b"\x01"
    return bytes(data)


def fuzz(role: str, seed: int) -> None:
    make, stream = STREAMS[role]
    rng = random.Random(seed)
    end = make()
    end.data_to_send()
    data = mutated(rng, stream)
    while data:
        size = rng.choice([1, 3, 84, rng.randrange(1, 200)])
        part, data = data[:size], data[size:]
        end.receive_data(part)
        assert len(end._buffer) <= LONGEST_FRAME
        assert len(end.data_to_send()) <= HELLO_FRAME
    assert end.done is None
    assert end.failed is None or isinstance(
        end.failed,
        ProtocolError | AuthenticationFailed | OtherCluster | VersionMismatch | Busy | ShuttingDown,
    )


@ROLES
def test_fuzzed_bytes_give_documented_errors_and_a_bounded_buffer(role: str) -> None:
    for seed in range(250):
        fuzz(role, seed)


@pytest.mark.slow
@ROLES
def test_ten_thousand_fuzzed_streams_give_documented_errors_and_a_bounded_buffer(role: str) -> None:
    for seed in range(1_000, 6_000):
        fuzz(role, seed)


def test_nothing_secret_is_kept_after_the_end() -> None:
    for prs in (PRS, OTHER_PRS):
        one, other = client(prs), server()
        run(one, other)
        for end in (one, other):
            assert end._prs == b"" and end._cpace is None
            assert end._keys.client == end._keys.server == end._keys.resume == b""
