"""Buses: one contract for telling others of events, and three adapters. Start with `contract.py`."""
