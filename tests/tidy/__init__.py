"""The house rules as functions over the tree; `tests/test_tidy.py` runs and tests them."""
