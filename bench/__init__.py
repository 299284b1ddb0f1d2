"""Benchmarks: the fleet beside its peers, in one run, on one machine, results checked."""
