"""A Kafka in memory that keeps Kafka's promises: for tests of the engine, and of what teams build on it.

It stands behind the same ports as the real one and passes the same contract suite. It needs no time and no threads, and
does the same again when it is run again; faults and crashes are put wherever a test wants them.
"""

from app.runtime.simulated.clock import SimulatedClock
from app.runtime.simulated.cluster import SimulatedCluster
from app.runtime.simulated.link import Link, SimulatedClient
from app.runtime.simulated.log import SimulatedRecord
from app.runtime.simulated.source import SimulatedSource

__all__ = ["Link", "SimulatedClient", "SimulatedClock", "SimulatedCluster", "SimulatedRecord", "SimulatedSource"]
