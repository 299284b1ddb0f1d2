"""The customer."""

from __future__ import annotations

from app.domain.customer import (
    CUSTOMER,
    Channel,
    CustomerPromoted,
    CustomerRegistered,
    PromoteToVip,
    RegisterCustomer,
    UserVerified,
    VerifyUser,
)
from tests.unit.given import given

REGISTERED = CustomerRegistered("c", "Ada", "ada@example.org", Channel.UNKNOWN)
VERIFIED = UserVerified("c", "Ada", "ada@example.org")
PROMOTED = CustomerPromoted("c", "Ada", "ada@example.org", "loyal")


def test_somebody_registers_once() -> None:
    given(CUSTOMER).when(RegisterCustomer("c", "Ada", "ada@example.org")).then(REGISTERED)
    given(CUSTOMER, REGISTERED).when(RegisterCustomer("c", "Bob", "bob@example.org")).then_rejected(
        "customer_already_registered"
    )


def test_the_channel_is_told_on() -> None:
    given(CUSTOMER).when(RegisterCustomer("c", "Ada", "ada@example.org", Channel.SHOP)).then(
        CustomerRegistered("c", "Ada", "ada@example.org", Channel.SHOP)
    )


def test_a_customer_needs_a_name_and_an_address() -> None:
    given(CUSTOMER).when(RegisterCustomer("c", "", "ada@example.org")).then_rejected("customer_invalid")
    given(CUSTOMER).when(RegisterCustomer("c", "Ada", "nowhere")).then_rejected("customer_invalid")


def test_verifying_twice_changes_nothing() -> None:
    given(CUSTOMER, REGISTERED).when(VerifyUser("c")).then(VERIFIED)
    given(CUSTOMER, REGISTERED, VERIFIED).when(VerifyUser("c")).then()


def test_only_verified_customers_become_very_important_and_once() -> None:
    given(CUSTOMER, REGISTERED).when(PromoteToVip("c", "loyal")).then_rejected("customer_not_verified")
    given(CUSTOMER, REGISTERED, VERIFIED).when(PromoteToVip("c", "loyal")).then(PROMOTED)
    given(CUSTOMER, REGISTERED, VERIFIED, PROMOTED).when(PromoteToVip("c", "again")).then()


def test_nobody_is_verified_or_promoted() -> None:
    given(CUSTOMER).when(VerifyUser("c")).then_rejected("customer_not_found")
    given(CUSTOMER).when(PromoteToVip("c", "x")).then_rejected("customer_not_found")
