"""Values: dataclasses that nobody changes, at the price of ones that everybody may.

Python pays for `frozen=True` at every construction: a call per field, five times the whole of a
plain one, and every node builds half a dozen values for each command. Here the type checker sees
frozen classes and refuses every assignment; at run time nothing is in the way. Equality is by type
and fields, and values can be keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A dataclass with slots, frozen to the type checker."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
