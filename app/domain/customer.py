"""The customer: commands → decide → events → evolve, read downwards."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, TypeAlias, assert_never

import msgspec

from app.kernel import Aggregate, Command, Event, Rejected, Upcaster
from app.kernel.words import Id, Word

CustomerId = Id


class Channel(StrEnum):
    """The way on which somebody became a customer."""

    UNKNOWN = "unknown"
    WEB = "web"
    SHOP = "shop"
    PARTNER = "partner"


# Commands


class RegisterCustomer(Command, frozen=True):
    """Take somebody in as a customer."""

    wire_name: ClassVar[str] = "customer.register.v1"
    customer_id: CustomerId
    name: Word
    email: Word
    channel: Channel = Channel.UNKNOWN


class VerifyUser(Command, frozen=True):
    """Book that the e-mail address is the customer's."""

    wire_name: ClassVar[str] = "customer.verify.v1"
    customer_id: CustomerId


class PromoteToVip(Command, frozen=True):
    """Make a verified customer a very important one."""

    wire_name: ClassVar[str] = "customer.promote.v1"
    customer_id: CustomerId
    reason: Word


CustomerCommand: TypeAlias = RegisterCustomer | VerifyUser | PromoteToVip

# Events: each carries the name and the address, so that readers keep their own copy of what they need.


class CustomerRegistered(Event, frozen=True):
    """Somebody became a customer. Its first version did not say on which way."""

    wire_name: ClassVar[str] = "customer.registered.v2"
    customer_id: str
    name: str
    email: str
    channel: Channel


class UserVerified(Event, frozen=True):
    """The e-mail address is the customer's."""

    wire_name: ClassVar[str] = "customer.verified.v1"
    customer_id: str
    name: str
    email: str


class CustomerPromoted(Event, frozen=True):
    """The customer is a very important one."""

    wire_name: ClassVar[str] = "customer.promoted.v1"
    customer_id: str
    name: str
    email: str
    reason: str


CustomerEvent: TypeAlias = CustomerRegistered | UserVerified | CustomerPromoted

# State


class Customer(msgspec.Struct, frozen=True):
    """What is known of a customer; without a name, nothing."""

    name: str = ""
    email: str = ""
    verified: bool = False
    vip: bool = False


def decide(customer: Customer, command: CustomerCommand) -> Sequence[CustomerEvent] | Rejected:
    """The events that `command` leads to, or why it is refused."""
    if not customer.name and not isinstance(command, RegisterCustomer):
        return Rejected("customer_not_found", "Customer does not exist")
    match command:
        case RegisterCustomer(customer_id, name, email, channel):
            if customer.name:
                return Rejected("customer_already_registered", "Customer already registered")
            if not name or "@" not in email:
                return Rejected("customer_invalid", "Customer needs a name and an e-mail address")
            return [CustomerRegistered(customer_id, name, email, channel)]
        case VerifyUser(customer_id):
            return [] if customer.verified else [UserVerified(customer_id, customer.name, customer.email)]
        case PromoteToVip(customer_id, reason):
            if not customer.verified:
                return Rejected("customer_not_verified", "Can only promote verified customer")
            return [] if customer.vip else [CustomerPromoted(customer_id, customer.name, customer.email, reason)]
        case _:
            assert_never(command)


def evolve(customer: Customer, event: CustomerEvent) -> Customer:
    """The customer after `event`."""
    match event:
        case CustomerRegistered():
            return Customer(event.name, event.email)
        case UserVerified():
            return msgspec.structs.replace(customer, verified=True)
        case CustomerPromoted():
            return msgspec.structs.replace(customer, vip=True)
        case _:
            assert_never(event)


REGISTERED_V1 = Upcaster(
    "customer.registered.v1", "customer.registered.v2", lambda data: {**data, "channel": Channel.UNKNOWN}
)

CUSTOMER = Aggregate(name="customer", initial=Customer(), decide=decide, evolve=evolve, upcasters=(REGISTERED_V1,))
