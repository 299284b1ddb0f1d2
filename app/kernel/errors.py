"""The fleet's errors, one tree, each named by its consequence. A business refusal is no error: see `Rejected`."""

from __future__ import annotations


class FleetError(Exception):
    """Root of everything the fleet raises on purpose."""


class ConfigurationRefused(FleetError):
    """A setting or the catalogue is wrong: the process must not start. The text says what to change."""


class UndecodableMessage(FleetError):
    """A record is no message of ours: it goes to the dead letters, whole, and the partition goes on."""


class AppendRefused(FleetError):
    """The stream is not at the version that the writer expected: nothing was appended."""

    def __init__(self, stream_id: str, expected: int, actual: int) -> None:
        super().__init__(f"{stream_id} is at version {actual}, the writer expected {expected}")
        self.stream_id = stream_id
        self.expected = expected
        self.actual = actual


class PipelineError(FleetError):
    """Root of what a pipeline raises."""


class IllegalTransition(PipelineError):
    """A pipeline was asked for a step that its lifecycle does not have: a defect of the engine."""


class RetryablePipelineError(PipelineError):
    """The round was aborted; the pipeline drops its producer, opens again and repeats it."""


class OpenRefused(PipelineError):
    """Going on would lose or double data: the pipeline stays closed until a person decides. The text says how."""


class RecordTooLarge(PipelineError):
    """One row or event does not fit into a batch that the broker accepts."""


class BrokerUnavailable(FleetError):
    """No broker answered within the deadline."""


class BusUnavailable(FleetError):
    """A bus did not take events within its deadline: whoever published them decides whether that matters."""


class StoreFailed(RetryablePipelineError):
    """A local store cannot be read or written. Its rows are in the changelog: opening again mends or rebuilds it."""


class StoreClosed(StoreFailed):
    """The store was closed: its partition moves, or the worker stops."""
