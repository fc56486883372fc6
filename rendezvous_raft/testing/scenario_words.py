"""How a scenario's trace tells of results and events: one line each, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from rendezvous_raft.core import commands as c
from rendezvous_raft.core import events as e
from rendezvous_raft.core import results as r


def told_result(command: c.Command, result: r.Result) -> str:
    """What a command was answered."""
    match result:
        case r.Rejected():
            return f"rejected, {result.reason.value} {result.detail}"
        case r.RequestRegistered():
            return f"{result.request_id} {'created' if result.created else 'already there'}"
        case r.BranchesRegistered():
            how = "already there" if result.already_existed else "registered"
            return f"{', '.join(result.branch_ids)} {how}"
        case r.BranchesClosed() if isinstance(command, c.CloseBranches):
            pairs = zip(command.closes, result.outcomes, strict=True)
            return ", ".join(f"{_told_close(close)} {outcome.value}" for close, outcome in pairs)
        case r.LeaseChanged():
            return _told_lease(command, known=result.known)
        case r.MembersChanged():
            return _told_members(command, known=result.known)
        case r.TimeAdvanced():
            return f"time {result.time_ms} ms"
        case r.RequestsExpired():
            more = ", and there are more" if result.more else ""
            return f"expired {result.settled} settled, {result.open} open{more}"
    return type(result).__name__


def told_event(event: e.Event) -> str:
    """One fact."""
    match event:
        case e.RequestOpened():
            return f"{event.request_id} opened"
        case e.BranchOpened():
            return (
                f"{event.branch_id} opened {told_places(event.regions, is_global=event.is_global)}"
            )
        case e.RegionClosed():
            places = (event.region,) if event.region else ()
            return f"{event.branch_id} closed {told_places(places, is_global=event.is_global)}"
        case e.RequestSettled():
            return f"{event.request_id} settled"
        case e.WaitLeaseChanged():
            return f"the waits of {event.request_id} changed"
        case e.GroupChanged():
            return f"{event.service} in {event.region} is divided anew in group {event.group}"
        case e.RequestExpired():
            lost = "; ".join(
                f"{lost.branch_id} open {told_places(lost.regions, is_global=lost.is_global)}"
                for lost in event.branches
            )
            was = "settled" if event.settled else "open"
            return f"{event.request_id} expired, it was {was}" + (f": {lost}" if lost else "")


def told_places(regions: Sequence[str], *, is_global: bool) -> str:
    """Where a branch is open or closed."""
    if is_global:
        return "everywhere"
    return f"in {', '.join(regions)}" if regions else "in no region"


def _told_close(close: c.Close) -> str:
    if close.all_regions:
        return f"{close.branch_id} all"
    return f"{close.branch_id} {close.region}".rstrip()


def _told_lease(command: c.Command, *, known: bool) -> str:
    if isinstance(command, c.EndWait):
        return f"lease {command.lease_id} {'ended' if known else 'was gone'}"
    if isinstance(command, c.BeginWait):
        return f"lease {command.lease_id} {'renewed' if known else 'began'}"
    return "a retried lease"


def _told_members(command: c.Command, *, known: int) -> str:
    match command:
        case c.JoinGroup():
            return f"{command.member_id} {'renewed' if known else 'joined'}"
        case c.RenewMembers():
            return f"{known} of {', '.join(command.member_ids)} renewed"
        case c.LeaveGroups():
            return f"{known} of {', '.join(command.member_ids)} left"
    return "a retried membership"
