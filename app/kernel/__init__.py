"""Pure shapes: messages, aggregates, projections and the errors. No input or output, no clock, no asyncio."""

from app.kernel.aggregate import Aggregate
from app.kernel.chain import Chain, Step
from app.kernel.envelope import Envelope, Outcome
from app.kernel.errors import FleetError
from app.kernel.filter import Filter, Known
from app.kernel.messages import Command, Event, Message, Rejected, stream_id_of
from app.kernel.projection import Keyed, Listing, Projection
from app.kernel.reaction import Reaction, when
from app.kernel.upcasting import Upcaster
from app.kernel.window import COUNT, Figures, Fold, Hopping, Session, Sliding, Tumbling, Window, total_of

__all__ = [
    "COUNT",
    "Aggregate",
    "Chain",
    "Command",
    "Envelope",
    "Event",
    "Figures",
    "Filter",
    "FleetError",
    "Fold",
    "Hopping",
    "Keyed",
    "Known",
    "Listing",
    "Message",
    "Outcome",
    "Projection",
    "Reaction",
    "Rejected",
    "Session",
    "Sliding",
    "Step",
    "Tumbling",
    "Upcaster",
    "Window",
    "stream_id_of",
    "total_of",
    "when",
]
