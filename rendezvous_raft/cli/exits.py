"""What a command's exit status says, and how a failure is put into words.

- 0: ok.
- 1: a check failed, something is unhealthy, or the service refused.
- 2: usage: the command line or a value in it is wrong.
- 3: the cluster cannot be reached, or has no leader.
- 4: the outcome of a write is unknown.
- 5: timed out.
"""

from __future__ import annotations

import enum

from rendezvous_raft import errors


class ExitCode(enum.IntEnum):
    """Exit status of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    OUTCOME_UNKNOWN = 4
    TIMED_OUT = 5


def exit_code_for(error: errors.RendezvousError, *, writes: bool) -> ExitCode:
    """The exit status for a failure.

    Args:
        error: What the client raised.
        writes: Whether the command changes something: only then is an indefinite failure an
            unknown outcome.
    """
    if writes and not error.definite:
        return ExitCode.OUTCOME_UNKNOWN
    match error:
        case errors.InvalidArgument():
            return ExitCode.USAGE
        case errors.Unavailable() | errors.OutcomeUnknown():
            return ExitCode.UNREACHABLE
        case errors.DeadlineExceeded():
            return ExitCode.TIMED_OUT
        case _:
            return ExitCode.FAILED


def effect_of(error: errors.RendezvousError, *, writes: bool) -> str:
    """Whether the command may have taken effect."""
    if not writes:
        return "nothing was changed: this command only reads"
    if error.definite:
        return "nothing was changed"
    return "it may have taken effect"


def next_step_for(error: errors.RendezvousError, *, writes: bool) -> str:
    """What to try next."""
    if writes and not error.definite:
        return "run it again with the same ids: it then has one effect; or look with `request show`"
    for cls, advice in _ADVICE:
        if isinstance(error, cls):
            return advice
    return "look at the node's log and at `rendezvous cluster status`"


_ADVICE: tuple[tuple[type[errors.RendezvousError], str], ...] = (
    (errors.NoLeader, "wait for the election; see `rendezvous cluster status`"),
    (errors.Draining, "ask another node: --endpoints HOST:PORT,…"),
    (errors.NotReady, "wait until the node is ready: `rendezvous check health`"),
    (errors.ReadOnly, "free disk space on the node"),
    (errors.Unavailable, "check --endpoints, and that nodes run: `rendezvous cluster status`"),
    (errors.OutcomeUnknown, "check --endpoints and the network, then run it again"),
    (errors.DeadlineExceeded, "run it again, or give it more time with --timeout"),
    (errors.RequestNotFound, "check the id: `rendezvous request list`"),
    (errors.RequestExpired, "nothing can be learned of it any more; register a new request"),
    (errors.NotFound, "check the id or name that was given"),
    (errors.AlreadyExists, "choose another id; this one stands for something else"),
    (errors.InvalidArgument, "correct the value"),
    (errors.LimitExceeded, "stay within the limit; `/statusz` of a node lists all of them"),
    (errors.Overloaded, "run it again after a pause"),
    (errors.Unauthenticated, "give valid credentials"),
    (errors.PermissionDenied, "ask for the right to do this"),
    (errors.InternalError, "please report it, with the incident id if there is one"),
)
