"""Members who cheat on the bulk connection: it is dropped, and whoever waited for its bytes is told."""

from __future__ import annotations

import pickle
from typing import Any

import msgpack
import pytest

from discoro.shipping.values import decode_exception, dumps, loads
from discoro.transport import bulkframes
from discoro.transport.bulkframes import FrameType as Bulk
from discoro.transport.frames import FrameType, Kind
from discoro.transport.limits import MIB
from tests.faults.byhand import Member
from tests.faults.test_members import beside, computation_of, drown, growth_below
from tests.functional import jobs
from tests.processes import ServerProgram, World

__all__ = ["beside"]


class Both:
    """A session by hand with its bulk connection beside it."""

    def __init__(self, server: ServerProgram, secret: str) -> None:
        self.control = Member.opened(server.port, secret)
        handle = computation_of(self.control, jobs.wait)
        assert self.control.ours is not None
        self.run = self.control.ours.run_base + 1
        self.control.one(Kind.RUN, handle << 1, self.run, dumps(((), {})))
        self.control.wait_for(lambda entry: entry.kind == Kind.STARTED)
        self.bulk = Member(server.port, secret)
        self.bulk.session, self.bulk.key = self.control.session, self.control.key
        assert self.bulk.claim_bulk() == FrameType.BULKED

    def announce(self, number: int, size: int, receipt: int = 5) -> None:
        head = (1).to_bytes(4, "little") + b"\x00" + pickle.dumps(pickle.PickleBuffer(b""), 5)
        payload = msgpack.packb([int(Kind.DELIVER), receipt, head, [[number, size]]])
        self.control.one(Kind.BIG, self.run, 0, payload)

    def receipt(self) -> Any:
        return self.control.wait_for(lambda entry: entry.kind == Kind.RECEIPT)

    def __enter__(self) -> Both:
        return self

    def __exit__(self, *exc: object) -> None:
        self.control.hang_up()
        self.bulk.hang_up()


def test_a_value_that_its_sender_gives_up_is_no_reason_to_wait_for_ever(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    with Both(server, shared.secret) as member:
        member.announce(1, 5000)
        member.bulk.say(bulkframes.encode(Bulk.DROPPED, 1, 0, b"changed my mind"))
        receipt = member.receipt()
        assert receipt.source == 1 and "did not arrive" in str(decode_exception(receipt.payload))
        member.control.one(Kind.SEND, member.run, 0, dumps("goes on"))
        result = member.control.wait_for(lambda entry: entry.kind == Kind.RESULT)
        assert loads(result.payload) == "goes on"


CHEATS = {
    "an unknown frame": bulkframes.HEADER.pack(77, 0, 0, 0, 1, 0),
    "data that nobody wanted": bulkframes.data_header(9, 0, 100) + bytes(100),
    "data from the wrong place": bulkframes.data_header(1, 77, 100) + bytes(100),
    "data without end": bulkframes.HEADER.pack(5, 0, 0, (1 << 32) - 1, 1, 0),
    "DONE for what was never sent": bulkframes.encode(Bulk.DONE, 1 << 40, 5),
    "WANT for what was never sent": bulkframes.encode(
        Bulk.WANT, 1 << 40, 0, bulkframes.pack_want(5, 5)
    ),
    "a reason without end": bulkframes.HEADER.pack(6, 0, 0, 1 << 20, 1, 0),
    "a negative number": bulkframes.HEADER.pack(7, 0, 0, 0, (1 << 64) - 1, 0),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_who_cheats_on_the_bulk_connection_loses_at_most_that(
    cheat: str, shared: World, server: ServerProgram, beside: Any
) -> None:
    said = len(server.err)
    with growth_below(server, 16 * MIB), Both(server, shared.secret) as member:
        member.announce(1, 5000)
        member.bulk.say(CHEATS[cheat] * 3)
        for _ in range(3):  # the rules may be broken three times in a row
            try:
                member.bulk.drain_raw(0.3)
            except OSError:
                pass
            if member.bulk.claim_bulk_again() != FrameType.BULKED:
                break
            member.bulk.say(CHEATS[cheat])
        member.control.one(Kind.SEND, member.run, 7, dumps("goes on"))  # from another sender
        result = member.control.wait_for(lambda entry: entry.kind == Kind.RESULT)
        assert loads(result.payload) == "goes on"
    assert "Traceback" not in server.err[said:], server.err[said:]


def test_who_asks_for_pongs_on_the_bulk_connection_and_never_reads_fills_no_memory(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    with growth_below(server, 24 * MIB), Both(server, shared.secret) as member:
        drown(member.bulk, bulkframes.encode(Bulk.PING, 1), 2.0)
