"""The messages of the rules: which fields each type has. Checked at the gate, trusted inside."""

from __future__ import annotations

from typing import Any

from rendezvous_raft.replication.raft.frames import FrameError

_ASK = {"last_index": int, "last_term": int, "transfer": bool, "incarnation": int}
_FIELDS: dict[str, dict[str, type]] = {
    "pre_vote": _ASK,
    "pre_vote_reply": {},
    "vote": _ASK,
    "vote_reply": {},
    "timeout_now": {},
    "append": {
        "round": int,
        "prev_index": int,
        "prev_term": int,
        "entries": list,
        "commit": int,
    },
    "commit": {"commit": int},
    "append_reply": {
        "round": int,
        "prev_index": int,
        "ok": bool,
        "match": int,
        "hint": int,
    },
    "snapshot": {
        "index": int,
        "snapshot_term": int,
        "offset": int,
        "size": int,
        "data": bytes,
    },
    "snapshot_reply": {"round": int, "offset": int, "installed": int},
    "stale": {},
    "read": {"read_id": int},
    "read_reply": {"read_id": int, "index": int},
    "forward": {"origin": bytes, "sequence": int, "payload": bytes},
    "forward_refused": {"origin": bytes, "sequence": int},
    "parked": {"request_ids": list},
    "join": {"name": str, "incarnation": int},
    "not_member": {"known": int},
}


def check_message(message: dict[str, Any]) -> None:
    """Raises `FrameError` unless the message has exactly the types of fields that it must have.

    Fields that are not known are ignored, types of messages that are not known are refused.
    """
    fields = _FIELDS.get(message["type"])
    if fields is None:
        raise FrameError(f"unknown message {message['type']!r}")
    for name, kind in (("term", int), *fields.items()):
        value = message.get(name)
        # A bool is an int to Python, not to us; and no number of ours is negative.
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise FrameError(f"{name!r} of {message['type']!r} is {value!r}")
    if message["type"] == "append":
        for entry in message["entries"]:
            if type(entry) is not list or [type(part) for part in entry] != [bytes, int]:
                raise FrameError("an entry is bytes and a term")
    if message["type"] == "parked" and not all(type(x) is str for x in message["request_ids"]):
        raise FrameError("request ids are text")
