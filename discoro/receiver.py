"""References to what takes messages: coroutines and channels of other processes, and the way of a message out of here.

A program that sends a million messages waits for :meth:`RemoteReceiver.send` a million times. So all that a message
passes stands in that one function, each step beside the module that it belongs to: packing (:mod:`discoro.shipping.plain`),
the grant (:mod:`discoro.transport.lanes`), the sender's number, the batch (:mod:`discoro.transport.delivery`). The same, by
the calls of those modules, is :meth:`~discoro.peers.peer.Peer.send_value`; a test sends by both and compares what is queued.
"""

from __future__ import annotations

from asyncio import current_task
from threading import get_ident
from typing import Any

from discoro.reference import Reference
from discoro.scheduler.waits import EAGER
from discoro.shipping.plain import ATOMS, FEW, SHORT, UNPACKABLE, dict_packer
from discoro.shipping.values import dumps
from discoro.transport.frames import Kind
from discoro.transport.lanes import OVERHEAD

# A plain number: a member of an enum costs several times as much.
_SEND = int(Kind.SEND)
# Of send() alone; and whether it is at work: see dict_packer().
_pack = dict_packer()
_packing = False


class RemoteReceiver(Reference):
    """A reference to a coroutine or channel of another process."""

    __slots__ = ()

    def send(self, msg: Any) -> int:
        """Queue a message for it, without waiting; gives 0. From any thread.

        Raises:
            MailboxFull: If too much waits for it already.
        """
        global _packing
        peer = self._peer
        if peer is None or peer.ended is not None or get_ident() != peer.thread:
            self._send_from_anywhere(msg)
            return 0
        # Packing, what dumps() does: most messages are dicts of a few small values.
        data = None
        if type(msg) is dict and 0 < len(msg) <= FEW and not _packing:
            for item in msg.values():
                kind = type(item)
                if kind is not int and (kind is not str or len(item) > SHORT) and kind not in ATOMS:
                    break
            else:
                _packing = True
                try:
                    data = _pack(msg)
                except UNPACKABLE:
                    pass
                finally:
                    _packing = False
        target = self.number
        if data is None:
            if peer.wants(msg):
                peer.network.big.send(peer, target, msg)
                return 0
            data = dumps(msg, "the message", self.code)
        # The grant, what Peer.queue() does: while there is credit nothing waits, and who has a lane has a session.
        size = len(data)
        lane = peer.lanes.get(target)
        session = peer.session
        if lane is None or session is None or lane.credit <= 0 or size > peer.max_payload:
            peer.send_bytes(target, data)
            return 0
        lane.credit -= size + OVERHEAD
        # Who sends, what Network.sender_number() does.
        running = peer.scheduler.running
        if running is None or (EAGER and current_task() is not running):  # type: ignore[comparison-overlap]
            source = 0
        else:
            source = running._number or running.number
        # The batch, what Session.send() does. Numbers that are the same object need not be compared; equal ones that are not, it compares.
        if (
            session.run_kind == _SEND
            and session.run_target is target
            and session.run_source is source
            and size < session.raw_payload
        ):
            session.run.append(data)
            size = session.batch_size = session.batch_size + size + session.batch_message
            if size >= session.batch_bytes:
                session.batch_is_full()
        else:
            session.send(_SEND, target, source, data)
        return 0

    def _send_from_anywhere(self, message: Any) -> None:
        if self.network.in_thread():
            self.peer().send_value(self.number, message, self.code)
        else:
            self.network.send_from_thread(self, message)
