"""The branch semantics over three nodes, against a model of one page; see DESIGN.md."""

from __future__ import annotations

import hypothesis
from machine import Service

Service.TestCase.settings = hypothesis.settings(
    stateful_step_count=50,
    report_multiple_bugs=False,
    phases=[p for p in hypothesis.Phase if p is not hypothesis.Phase.explain],
)
TestService = Service.TestCase
