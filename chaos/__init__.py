"""Faults on real processes that serve a load, judged from outside by what clients were told."""
