"""Round trips between regions, as `--rtt-ms eu-us=80,eu-ap=160` gives them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

RTT_MS_MAX = 5_000.0
"""Longest round trip that can be asked for: the bound of a node's timers."""


@dataclass(frozen=True, slots=True)
class RegionLatencies:
    """Round trips between pairs of regions in milliseconds; the same in both directions."""

    rtt_ms_by_pair: tuple[tuple[frozenset[str], float], ...] = ()

    @classmethod
    def parse(
        cls, text: str, *, regions: Sequence[str], default_ms: float = 0.0
    ) -> RegionLatencies:
        """Reads `A-B=MS,…`; pairs of `regions` that are not named get `default_ms`.

        Raises:
            ValueError: A pair names an unknown region, comes twice, or has no sensible number.
        """
        names = list(dict.fromkeys(regions))
        pair_by_label: dict[str, frozenset[str]] = {}
        for first, second in itertools.permutations(names, 2):
            pair_by_label[f"{first}-{second}"] = frozenset((first, second))
        given: dict[frozenset[str], float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            label, separator, number = part.partition("=")
            pair = pair_by_label.get(label.strip())
            if not separator or pair is None:
                known = ", ".join("-".join(two) for two in itertools.combinations(names, 2))
                raise ValueError(f"{part!r}: expected PAIR=MILLISECONDS with a pair of: {known}")
            if pair in given:
                raise ValueError(f"{part!r}: the pair is given twice")
            given[pair] = _milliseconds(part, number)
        pairs = [frozenset(two) for two in itertools.combinations(names, 2)]
        return cls(tuple((pair, given.get(pair, default_ms)) for pair in pairs))

    def rtt_ms(self, first: str, second: str) -> float:
        """Round trip between two regions; 0 inside a region and for pairs never given."""
        return dict(self.rtt_ms_by_pair).get(frozenset((first, second)), 0.0)

    def one_way_s(self, first: str, second: str) -> float:
        """Half the round trip, in seconds."""
        return self.rtt_ms(first, second) / 2_000

    @property
    def rtt_ms_max(self) -> float:
        """The longest round trip of all pairs; 0 without any."""
        return max((rtt for _, rtt in self.rtt_ms_by_pair), default=0.0)

    def as_table(self) -> dict[str, float]:
        """Round trip in milliseconds by `A-B`, for reports."""
        return {"-".join(sorted(pair)): rtt for pair, rtt in self.rtt_ms_by_pair}


def _milliseconds(part: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"{part!r}: {number!r} is no number of milliseconds") from None
    if not 0 <= value <= RTT_MS_MAX:
        raise ValueError(f"{part!r}: must be between 0 and {RTT_MS_MAX:.0f} ms")
    return value
