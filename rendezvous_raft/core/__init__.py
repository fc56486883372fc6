"""The replicated state machine: pure, deterministic, total. Start with `machine.py`."""
