"""New code for a running coroutine, while messages pour in: none is lost, none is read twice.

Its name, its reference and its mailbox stay. The swap happens where it waits in a call of ours.
"""

from discoro import Coro, run

MESSAGES = 20_000


def first(seen, coro=None):
    coro.hot_swappable(True)
    while True:
        seen.append(((yield coro.receive()), "first"))


def second(seen, coro=None):
    while len(seen) < MESSAGES:
        seen.append(((yield coro.receive()), "second"))
    return "second"


def sender(receiver, coro=None):
    for number in range(MESSAGES):
        receiver.send(number)
        if number % 100 == 0:
            yield coro.sleep(0)


def main(coro=None):
    seen = []
    receiver = Coro(first, seen)
    Coro(sender, receiver)
    while len(seen) < MESSAGES // 2:
        yield coro.sleep(0.001)
    receiver.hot_swap(second, seen)
    ended_by = yield receiver.finish()
    codes = [code for _, code in seen]
    print(
        "every message once and in order:", [number for number, _ in seen] == list(range(MESSAGES))
    )
    print("swapped once:", codes == sorted(codes), "ended by:", ended_by)


run(main)
