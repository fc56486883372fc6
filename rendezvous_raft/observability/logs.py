"""Structured logs: one event name plus fields, as JSON for machines or coloured for people.

`configure_logs` is called once by a process that serves; libraries only get loggers. What other
packages say through `logging` comes out in the same form.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

_NOISY = ("asyncio", "aiohttp.access", "grpc")
"""Loggers of other packages whose `info` is not for operators."""


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
    ]


def configure_logs(
    *, level: str, style: Literal["json", "console"], stream: TextIO | None = None
) -> None:
    """Sets up the logs of the whole process; the last call wins.

    Args:
        level: lowest level written: debug, info, warning or error.
        style: `json` writes one object per line. Neither shows local variables in a traceback:
            they may hold secrets.
        stream: where to; standard error by default.
    """
    out = sys.stderr if stream is None else stream
    if style == "json":
        render: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        render = [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=False,
    )


def get_logger(**fields: str) -> FilteringBoundLogger:
    """A logger whose every line carries these fields, e.g. `node` and `region`."""
    logger: FilteringBoundLogger = structlog.get_logger("rendezvous").bind(**fields)
    return logger
