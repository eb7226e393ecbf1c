"""What is wrong now, what of it was reported, and what still has to be sent: the cursor of the sensor of alerts.

Each fault is reported once, and once more when it is mended; what one channel does not take waits for it, with growing
pauses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from crm_core.alerts.delivery import Channel
from crm_core.alerts.message import KINDS, Fault, Message, State
from crm_core.errors import AlertFailed

ALONE = 5  # faults of a kind that come at once and have a message each; more of them have one
MAX_WAITING = 200  # messages of a channel; the oldest are given up first
MAX_SENT, SENDING_SECONDS = 20, 10.0  # of one tick
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 3600.0  # seconds after a failure, doubled each time


@dataclass(slots=True)
class Queue:
    """What waits for one channel."""

    messages: list[Message] = field(default_factory=list)
    failures: int = 0  # in a row
    not_before: float = 0.0  # seconds since 1970


@dataclass(slots=True)
class Outbox:
    """The faults that were told, and the messages that wait."""

    since: float  # seconds since 1970: what went wrong before is not told
    told: dict[str, Fault] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None, now: float) -> Outbox:
        """Read a cursor; one that is not valid starts now."""
        try:
            said = json.loads(text or "")
            found = cls(float(said["since"]), {key: Fault(**fault) for key, fault in said["told"].items()})
            for name, queue in said["queues"].items():
                messages = [Message.read(message) for message in queue["messages"]]
                found.queues[name] = Queue(messages, int(queue["failures"]), float(queue["not_before"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(now)
        return found

    def write(self) -> str:
        """Return it as a cursor."""
        return json.dumps(asdict(self))

    def compare(
        self, faults: Mapping[str, Fault], channels: Sequence[Channel], forgotten: Collection[str] = ()
    ) -> None:
        """Queue a message for what is new, and for what is mended since, for each of the channels.

        Nothing is said of what is gone because it is `forgotten`.
        """
        new = [fault for key, fault in faults.items() if key not in self.told]
        mended = [fault for key, fault in self.told.items() if key not in faults and key not in forgotten]
        for channel in channels:
            queue = self.queues.setdefault(channel.name, Queue())
            unsent = {message.fault.key for message in queue.messages if message.state == "fault" and not message.more}
            gone = {fault.key for fault in mended} & unsent  # nobody has heard of it, so nobody needs to
            queue.messages = [message for message in queue.messages if message.fault.key not in gone]
            queue.messages += _messages("mended", [fault for fault in mended if fault.key not in gone])
            queue.messages += _messages("fault", new)
            queue.messages = queue.messages[-MAX_WAITING:]
        self.told = {key: self.told.get(key, fault) for key, fault in faults.items()}

    def send(self, channels: Sequence[Channel], now: datetime) -> Sequence[AlertFailed]:
        """Send what waits and is due, for some seconds at most; return why a channel did not take it."""
        until = time.monotonic() + SENDING_SECONDS
        return [failure for channel in channels if (failure := self._send(channel, now, until))]

    def _send(self, channel: Channel, now: datetime, until: float) -> AlertFailed | None:
        queue = self.queues.setdefault(channel.name, Queue())
        for _ in range(MAX_SENT):
            if not queue.messages or queue.not_before > now.timestamp() or time.monotonic() > until:
                return None
            try:
                channel.send(queue.messages[0], now)
            except AlertFailed as failure:
                pause = min(FIRST_PAUSE * 2.0 ** min(queue.failures, 20), LONGEST_PAUSE)
                queue.failures, queue.not_before = queue.failures + 1, now.timestamp() + pause
                return failure
            queue.failures = 0
            del queue.messages[0]
        return None


def _messages(state: State, faults: Sequence[Fault]) -> list[Message]:
    """Return a message for each fault, or one for all of a kind if they are many."""
    found = []
    for kind in KINDS:
        some = [fault for fault in faults if fault.kind == kind]
        if len(some) > ALONE:
            found.append(Message(state, some[0], more=len(some) - 1))
        else:
            found += [Message(state, fault) for fault in some]
    return found
