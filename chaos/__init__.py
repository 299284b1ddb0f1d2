"""Chaos on real processes: three brokers, many workers, whatever can go wrong. The product never imports this."""
