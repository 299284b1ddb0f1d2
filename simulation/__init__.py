"""The whole fleet in one process on a simulated Kafka, disk, network, group and clock: one seed determines everything.

`make simulate SEEDS=100000 FIRST=0` plays seeds; docs/simulation.md tells the model, the faults and the invariants.
"""
