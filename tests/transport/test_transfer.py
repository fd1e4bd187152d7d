"""transfer: two pure machines over connections that are cut at any byte, with ends said from both sides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport.bulkframes import (
    HEADER,
    HEADER_BYTES,
    Frame,
    FrameType,
    decode_header,
    encode,
    pack_reason,
    pack_want,
    unpack_want,
)
from discoro.transport.errors import ProtocolError
from discoro.transport.limits import Limits
from discoro.transport.transfer import Ended, EndKind, Transfers

LIMITS = Limits(bulk_write=64 + HEADER_BYTES, max_transfers=3, transfer_bytes=2000)
WINDOW = 100

WIRE = [
    (Frame(FrameType.WANT, 1, 7, 16), "010000000000001000000000000000010000000000000007"),
    (Frame(FrameType.MORE, 2, 256, 0), "020000000000000000000000000000020000000000000100"),
    (Frame(FrameType.DONE, 3, 9, 0), "030000000000000000000000000000030000000000000009"),
    (Frame(FrameType.DATA, 4, 5, 1 << 20), "050000000010000000000000000000040000000000000005"),
    (Frame(FrameType.SETTLED, 5, 0, 0), "070000000000000000000000000000050000000000000000"),
]


@pytest.mark.parametrize(("frame", "wire"), WIRE, ids=lambda x: str(x)[:20])
def test_the_bytes_of_a_header(frame: Frame, wire: str) -> None:
    """Changing them breaks peers already deployed."""
    assert decode_header(bytes.fromhex(wire)) == frame
    assert HEADER.pack(frame.type, 0, 0, frame.length, frame.number, frame.value).hex() == wire
    if not frame.length:
        assert encode(frame.type, frame.number, frame.value).hex() == wire


@pytest.mark.parametrize(
    "fields",
    [
        (0, 0, 0, 0, 1, 0), (11, 0, 0, 0, 1, 0), (5, 1, 0, 1, 1, 0), (5, 0, 1, 1, 1, 0), (5, 0, 0, 0, 1, 0),
        (5, 0, 0, (1 << 20) + 1, 1, 0), (1, 0, 0, 15, 1, 0), (2, 0, 0, 1, 1, 0), (3, 0, 0, 1, 1, 0), (4, 0, 0, 1025, 1, 0),
        (7, 0, 0, 4, 1, 0), (2, 0, 0, 0, 1 << 63, 0), (2, 0, 0, 0, 1, 1 << 63), (255, 255, 65535, 2**32 - 1, 2**64 - 1, 2**64 - 1),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_is_a_protocol_error(fields: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError):
        decode_header(HEADER.pack(*fields))


def test_small_payloads_come_back() -> None:
    assert unpack_want(pack_want(5, 3)) == (5, 3)
    assert len(pack_reason("\u00e9" * 2000)) == 1024
    assert pack_reason("a" + "\u00e9" * 2000).decode() == "a" + "\u00e9" * 511


class End:
    """One side: the machine, what it sends, and targets that are filled byte by byte."""

    def __init__(self) -> None:
        self.machine = Transfers(LIMITS)
        self.sources: dict[int, bytes] = {}
        self.targets: dict[int, bytearray] = {}
        self.windows: dict[int, bool] = {}
        self.sizes: dict[int, int] = {}
        self.results: dict[int, str] = {}
        self.fates: dict[int, str] = {}
        self.rest = bytearray()

    def start(self) -> None:
        while (number := self.machine.start_next()) is not None:
            self.targets[number] = bytearray()
            slow = self.windows[number]
            self.machine.want(number, WINDOW if slow else None)
            if not self.sizes[number]:
                self.complete(number)

    def complete(self, number: int) -> None:
        self.machine.complete(number)
        self.results[number] = "complete"
        self.start()

    def store(self) -> None:
        for number in self.machine.incoming:
            if self.windows[number] and number in self.targets:
                got = self.machine.offset(number)
                self.machine.stored(number, got)
                if got == self.sizes[number]:
                    self.complete(number)

    def out(self) -> bytes:
        data = self.machine.data_to_send()
        while (
            part := self.machine.next_part(lambda n, o: min(80, len(self.sources[n]) - o))
        ) is not None:
            data += part.header + self.sources[part.number][part.offset : part.offset + part.length]
        return data

    def take(self, data: bytes) -> None:
        """Bytes of DATA count one by one as they come, as in the link; the rest by whole frames."""
        self.rest += data
        while len(self.rest) >= HEADER_BYTES:
            frame = decode_header(self.rest)
            have = min(len(self.rest) - HEADER_BYTES, frame.length)
            if frame.type is FrameType.DATA:
                if not self.under_way:
                    self.wanted = self.machine.data_begins(frame)
                new = bytes(self.rest[HEADER_BYTES + self.under_way : HEADER_BYTES + have])
                self.under_way = have
                if self.wanted and frame.number in self.machine.incoming and new:
                    self.targets[frame.number] += new
                    if (
                        self.machine.data_came(frame.number, len(new))
                        and not self.windows[frame.number]
                    ):
                        self.complete(frame.number)
                if have < frame.length:
                    return
                self.under_way = 0
            elif have < frame.length:
                return
            payload = bytes(self.rest[HEADER_BYTES : HEADER_BYTES + frame.length])
            del self.rest[: HEADER_BYTES + frame.length]
            if frame.type is not FrameType.DATA:
                self.ended(self.machine.control_came(frame, payload))

    under_way = 0
    wanted = False

    def ended(self, ended: Ended | None) -> None:
        if ended is None:
            return
        if ended.kind is EndKind.DROPPED:
            assert ended.number not in self.results
            self.results[ended.number] = "dropped"
            self.start()
        else:
            assert ended.number not in self.fates
            self.fates[ended.number] = ended.kind.name

    def cut(self) -> None:
        self.rest.clear()
        self.under_way = 0
        self.machine.detached()


class Net:
    """Two ends, and what is on its way between them."""

    def __init__(self) -> None:
        self.ends = (End(), End())
        self.wires = (bytearray(), bytearray())
        self.up = False

    def connect(self) -> None:
        self.cut()
        self.up = True
        for end in self.ends:
            end.machine.attached()

    def cut(self) -> None:
        self.up = False
        for wire, end in zip(self.wires, self.ends, strict=True):
            wire.clear()
            end.cut()

    def flow(self, direction: int, count: int) -> None:
        if self.up:
            wire = self.wires[direction]
            wire += self.ends[direction].out()
            self.ends[1 - direction].take(bytes(wire[:count]))
            del wire[:count]

    def begin(self, direction: int, size: int, slow: bool) -> None:
        sender, receiver = self.ends[direction], self.ends[1 - direction]
        number = sender.machine.offer(size)
        sender.sources[number] = bytes((number + i) % 251 for i in range(size))
        receiver.windows[number], receiver.sizes[number] = slow, size
        receiver.machine.expect(number, size)
        receiver.start()

    def settle(self) -> None:
        self.connect()
        for _ in range(3000):
            for direction in (0, 1):
                self.flow(direction, 500)
                self.ends[direction].store()
            if not any(end.machine.busy for end in self.ends):
                return
        raise AssertionError("never quiet")


steps = st.one_of(
    st.tuples(st.just("begin"), st.integers(0, 1), st.integers(0, 1500), st.booleans()),
    st.tuples(st.just("flow"), st.integers(0, 1), st.integers(1, 400)),
    st.tuples(st.just("flow"), st.integers(0, 1), st.integers(1, 30)),
    st.tuples(st.just("store"), st.integers(0, 1)),
    st.tuples(st.just("connect")),
    st.tuples(st.just("cut")),
    st.tuples(st.just("withdraw"), st.integers(0, 1), st.integers(1, 6)),
    st.tuples(st.just("refuse"), st.integers(0, 1), st.integers(1, 6)),
)


def do(net: Net, step: tuple[object, ...]) -> None:
    match step:
        case ("begin", int(direction), int(size), bool(slow)):
            net.begin(direction, size, slow)
        case ("flow", int(direction), int(count)):
            net.flow(direction, count)
        case ("store", int(which)):
            net.ends[which].store()
        case ("connect",):
            net.connect()
        case ("cut",):
            net.cut()
        case ("withdraw", int(which), int(number)):
            if net.ends[which].machine.withdraw(number, "no"):
                net.ends[which].fates[number] = "WITHDRAWN"
        case ("refuse", int(which), int(number)):
            if net.ends[which].machine.refuse(number, "no"):
                net.ends[which].results[number] = "refused"
                net.ends[which].start()


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, min_size=5, max_size=60))
def test_each_transfer_ends_once_on_both_sides_and_whole_where_it_says_so(
    script: list[tuple[object, ...]],
) -> None:
    """Whatever is cut, wherever: bytes are neither lost nor twice, and the two sides agree at the end."""
    net = Net()
    for step in script:
        do(net, step)

    net.settle()

    for direction in (0, 1):
        sender, receiver = net.ends[direction], net.ends[1 - direction]
        assert set(sender.fates) == set(sender.sources) == set(receiver.results)
        for number, fate in sender.fates.items():
            result = receiver.results[number]
            if fate == "SENT":
                assert result == "complete"
            elif fate == "REFUSED":
                assert result == "refused"
            if result == "complete":
                assert bytes(receiver.targets[number]) == sender.sources[number]
        assert receiver.machine.unsettled == 0


def pair() -> Net:
    net = Net()
    net.connect()
    return net


def test_several_transfers_take_turns_of_one_part() -> None:
    net = pair()
    for _ in range(3):
        net.begin(0, 600, False)
    net.flow(1, 10_000)

    machine, order = net.ends[0].machine, []
    while (part := machine.next_part(lambda number, offset: 600 - offset)) is not None:
        order.append((part.number, part.length))

    assert order[:6] == [(1, 64), (2, 64), (3, 64), (1, 64), (2, 64), (3, 64)]


def test_a_transfer_alone_goes_in_long_frames() -> None:
    net = pair()
    net.begin(0, 600, False)
    net.flow(1, 10_000)

    part = net.ends[0].machine.next_part(lambda number, offset: 600)

    assert part is not None and part.length == 600


def test_a_source_that_is_not_ready_keeps_its_turn_and_holds_nobody_up() -> None:
    net = pair()
    net.begin(0, 600, False)
    net.begin(0, 600, False)
    net.flow(1, 10_000)
    machine = net.ends[0].machine

    part = machine.next_part(lambda number, offset: 0 if number == 1 else 600)
    assert part is not None and part.number == 2
    assert machine.next_part(lambda number, offset: 0) is None
    part = machine.next_part(lambda number, offset: 600)
    assert part is not None and part.number == 1


def test_no_more_is_under_way_to_a_slow_target_than_its_window() -> None:
    net = pair()
    net.begin(0, 1000, True)
    net.flow(1, 10_000)
    net.flow(0, 10_000)
    assert net.ends[1].machine.offset(1) == WINDOW

    net.flow(0, 10_000)
    assert net.ends[1].machine.offset(1) == WINDOW

    net.ends[1].store()
    net.flow(1, 10_000)
    net.flow(0, 10_000)
    assert net.ends[1].machine.offset(1) == 2 * WINDOW


def test_room_given_in_the_middle_does_not_give_a_second_turn() -> None:
    net = pair()
    net.begin(0, 900, False)
    net.begin(0, 900, True)
    net.flow(1, 10_000)
    machine, order = net.ends[0].machine, []
    for limit in (300, 600, 900):
        machine.control_came(Frame(FrameType.MORE, 2, limit, 0), b"")
        for _ in range(4):
            part = machine.next_part(lambda number, offset: 900 - offset)
            assert part is not None
            order.append(part.number)

    assert order == [1, 2] * 6


def test_what_waits_for_its_turn_is_not_asked_for() -> None:
    net = pair()
    for _ in range(5):
        net.begin(0, 600, False)

    assert sorted(net.ends[1].targets) == [1, 2, 3]


def test_one_that_is_over_the_budget_alone_still_goes() -> None:
    net = pair()
    net.begin(0, 5000, False)

    assert sorted(net.ends[1].targets) == [1]


def data(number: int, offset: int, length: int) -> Frame:
    return Frame(FrameType.DATA, number, offset, length)


@pytest.mark.parametrize(
    "frame",
    [data(2, 0, 1), data(1, 1, 1), data(1, 0, 101), data(1, 0, 601), data(0, 0, 1)],
    ids=["unasked", "not in order", "beyond the limit", "beyond the size", "number 0"],
)
def test_bytes_that_nobody_asked_for_are_a_protocol_error(frame: Frame) -> None:
    net = pair()
    net.begin(0, 600, True)

    with pytest.raises(ProtocolError):
        net.ends[1].machine.data_begins(frame)


def test_bytes_of_a_refused_transfer_are_dropped_until_the_sender_knows() -> None:
    net = pair()
    net.begin(0, 600, False)
    machine = net.ends[1].machine
    machine.refuse(1, "changed my mind")

    assert machine.data_begins(data(1, 0, 10)) is False
    machine.control_came(Frame(FrameType.SETTLED, 1, 0, 0), b"")
    with pytest.raises(ProtocolError):
        machine.data_begins(data(1, 10, 10))


@pytest.mark.parametrize(
    ("frame", "payload"),
    [
        (Frame(FrameType.WANT, 1, 0, 16), pack_want(600, 600)),
        (Frame(FrameType.MORE, 1, 601, 0), b""),
        (Frame(FrameType.MORE, 1, 5, 0), b""),
        (Frame(FrameType.DONE, 1, 599, 0), b""),
    ],
    ids=["wanted twice", "limit beyond the end", "limit going back", "done with other bytes"],
)
def test_what_a_receiver_cannot_say_is_a_protocol_error(frame: Frame, payload: bytes) -> None:
    net = pair()
    net.begin(0, 600, False)
    net.flow(1, 10_000)

    with pytest.raises(ProtocolError):
        net.ends[0].machine.control_came(frame, payload)


def test_two_sizes_end_the_transfer_on_both_sides() -> None:
    net = pair()
    net.begin(0, 600, False)
    machine = net.ends[0].machine

    ended = machine.control_came(Frame(FrameType.WANT, 1, 0, 16), pack_want(601, 601))

    assert ended is not None and ended.kind is EndKind.REFUSED and "600" in ended.reason
    assert machine.outgoing == []


def test_one_that_was_given_up_before_it_was_expected_ends_when_it_is() -> None:
    """The two connections are not in step: the end may overtake the announcement, and the cut come between."""
    net = pair()
    sender, receiver = net.ends
    sender.machine.offer(600)
    sender.machine.withdraw(1, "no more")
    assert sender.machine.busy, "until the receiver has heard of it"
    net.flow(0, 100)
    net.cut()
    net.connect()
    net.flow(0, 100)
    net.flow(1, 100)
    assert not sender.machine.busy

    assert receiver.machine.expect(1, 600) == Ended(EndKind.DROPPED, 1, "no more")
    assert not receiver.machine.busy


def test_a_number_that_was_never_sent_cannot_be_wanted() -> None:
    net = pair()
    with pytest.raises(ProtocolError):
        net.ends[0].machine.control_came(Frame(FrameType.WANT, 1, 0, 16), pack_want(1, 1))


def test_a_number_is_expected_once() -> None:
    net = pair()
    net.begin(0, 600, False)

    with pytest.raises(ValueError, match="expected before"):
        net.ends[1].machine.expect(1, 600)


def test_a_ping_is_answered() -> None:
    net = pair()
    net.ends[0].machine.ping(7)
    net.flow(0, 100)

    assert net.ends[1].machine.data_to_send() == encode(FrameType.PONG, 7)


@pytest.mark.parametrize("kind", [FrameType.PING, FrameType.REFUSED, FrameType.DONE])
def test_a_peer_that_asks_and_never_reads_breaks_the_rules(kind: FrameType) -> None:
    machine = Transfers(LIMITS)
    machine.attached()
    asked = 0
    with pytest.raises(ProtocolError, match="none is read"):
        while asked < 100_000:
            asked += 1
            machine.control_came(Frame(kind, asked, 0, 0), b"")
    assert len(machine.data_to_send()) < 1 << 20
    machine.control_came(Frame(kind, asked, 0, 0), b"")
