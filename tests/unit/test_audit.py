"""The auditor: a healthy log has no violation, and each thing that can be wrong with one is found, under its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.audit.auditor import Auditor
from app.audit.records import Kind, Place, place_of
from tests.unit.audited import Log, decoded, encoded, healthy

ORDERS, STOCK, CUSTOMERS = "orders.events", "inventory.events", "customers.events"
COMMANDS, OUTCOMES, ALERTS = "orders.commands", "orders.outcomes", "fleet.alerts"
ROWS, CHAIN, SHELVES = "projecting-orders.changelog", "chaining-fulfilment.changelog", "deciding-inventory.changelog"


def of(type_: str, subject: str = "") -> Callable[[Any], bool]:
    return lambda told: told.get("type") == type_ and told["subject"].startswith(subject)


def test_a_healthy_log_has_no_violation_and_everything_was_checked() -> None:
    audit = healthy().audit()
    assert audit.violations == 0, [v.examples for v in audit.verdicts if v.violations]
    assert (audit.ok, audit.in_flight) == (True, 0)
    assert {v.name for v in audit.verdicts if not v.checked} == {"parked-keys-accounted"}
    assert audit.dead_letters == {("deciding-orders", "undecodable"): 1}


def test_partitions_and_topics_may_be_read_in_any_order() -> None:
    log = healthy()
    for key in (lambda r: r.topic, lambda r: (-r.partition, r.topic[::-1])):
        log.records.sort(key=key)
        assert log.audit().ok


def test_what_is_not_finished_yet_is_in_flight_until_patience_is_over() -> None:
    log = healthy()
    log.drop(log.find(OUTCOMES))
    audit = log.audit(patience_over=False)
    assert (audit.ok, audit.in_flight > 0) == (True, True)
    assert not log.audit().ok


def unreadable(log: Log) -> None:
    one = log.find(ORDERS)
    log.records.append(replace(one, offset=10**6, value=b"{"))


def version_skipped(log: Log) -> None:
    log.change(log.find(CUSTOMERS, of("customer.promoted.v1")), lambda e: e.update(version=7))


def event_lost(log: Log) -> None:
    log.drop(log.find(ORDERS, of("order.payment-requested.v1")))


def event_doubled(log: Log) -> None:
    last = log.find(CUSTOMERS, of("customer.promoted.v1"))
    log.put(CUSTOMERS, decoded(last) | {"version": 4}, last)


def wrong_key(log: Log) -> None:
    one = log.find(CUSTOMERS)
    log.records[log.records.index(one)] = replace(one, key=b"another")


def moved_to_another_partition(log: Log) -> None:
    one = log.find(CUSTOMERS, of("customer.promoted.v1"))
    log.records[log.records.index(one)] = replace(one, partition=1 - one.partition)


def outcome_lost(log: Log) -> None:
    log.drop(log.find(OUTCOMES, of("command.rejected.v1")))


def outcome_doubled(log: Log) -> None:
    one = log.find(OUTCOMES, of("command.rejected.v1"))
    log.put(OUTCOMES, decoded(one), one)


def dead_letter_lost(log: Log) -> None:
    log.drop(next(r for r in log.records if r.topic == "deciding-orders.deadletters"))


def event_unclaimed(log: Log) -> None:
    log.change(log.find(OUTCOMES, of("command.accepted.v1")), lambda o: o["data"].update(events=[]))


def event_claimed_twice(log: Log) -> None:
    one = log.find(OUTCOMES, lambda o: bool(o["data"].get("events")))
    log.change(one, lambda o: o["data"]["events"].extend(o["data"]["events"]))


def claims_what_is_not_there(log: Log) -> None:
    log.change(log.find(OUTCOMES, of("command.accepted.v1")), lambda o: o["data"]["events"].append("ghost"))


def rejected_with_events(log: Log) -> None:
    no = {"reason": "no", "message": "no"}
    log.change(log.find(OUTCOMES, of("command.accepted.v1")), lambda o: o["data"].update(rejected=no))


def command_never_sent(log: Log) -> None:
    log.drop(log.find("customers.commands", of("customer.verify.v1")))


def alert_without_cause(log: Log) -> None:
    log.change(log.find(ALERTS), lambda a: a.update(causationid="ghost"))


def chain_command_without_cause(log: Log) -> None:
    log.change(log.find(COMMANDS, of("order.ship.v1")), lambda c: c.update(causationid="ghost"))


def correlation_lost(log: Log) -> None:
    log.change(log.find(CUSTOMERS), lambda e: e.update(correlationid="another"))


def chain_correlates_otherwise(log: Log) -> None:
    release = log.find("inventory.commands", of("inventory.release.v1"))
    log.change(release, lambda c: c.update(correlationid="another"))


def wrong_total(log: Log) -> None:
    created = log.find(ORDERS, of("order.created.v1", "by-hand"))
    log.change(created, lambda e: e["data"].update(total="2.49"))
    row = next(r for r in log.records if r.topic == ROWS and r.key == b"orders\0by-hand")
    log.change(row, lambda told: told["row"].update(total="2.49"))


def row_of(log: Log, key: bytes, topic: str = ROWS) -> Any:
    return [r for r in log.records if r.topic == topic and r.key == key][-1]


def cent_lost_in_a_row(log: Log) -> None:
    log.change(row_of(log, b"orders\0paid"), lambda told: told["row"].update(total="1200.49"))


def status_wrong_in_a_row(log: Log) -> None:
    log.change(row_of(log, b"orders\0paid"), lambda told: told["row"].update(status="paid"))


def row_behind(log: Log) -> None:
    log.drop(row_of(log, b"orders\0paid"))


def row_of_an_order_that_never_was(log: Log) -> None:
    one = row_of(log, b"orders\0paid")
    log.put(ROWS, decoded(one), one, key=b"orders\0ghost")


def last_row(log: Log, table: bytes, key: bytes = b"") -> Any:
    """The newest row of a table whose key holds `key`."""
    return [r for r in log.records if r.key and r.key.startswith(table + b"\0") and key in r.key and r.value][-1]


def cent_lost_on_a_day(log: Log) -> None:
    log.change(last_row(log, b"orders-by-day"), lambda told: told["row"].update(total="0.01"))


def order_not_counted_on_a_day(log: Log) -> None:
    log.drop(last_row(log, b"orders-by-day"))


def cent_too_much_spent(log: Log) -> None:
    log.change(last_row(log, b"customers", b"vip"), lambda told: told["row"].update(spent="1200.51"))


def customer_behind(log: Log) -> None:
    log.drop(last_row(log, b"customers", b"new"))


def status_wrong_in_a_list(log: Log) -> None:
    log.change(last_row(log, b"customer-orders", b"paid"), lambda told: told["row"].update(status="created"))


def in_the_list_of_another(log: Log) -> None:
    for row in [r for r in log.records if r.key and r.key.startswith(b"customer-orders\0") and b"paid" in r.key]:
        moved = replace(row, key=(row.key or b"").replace(b"vip", b"new"))
        log.records[log.records.index(row)] = moved


def twice_in_a_list(log: Log) -> None:
    row = last_row(log, b"customer-orders", b"paid")
    log.put(row.topic, decoded(row), row, key=row.key.replace(b"\x80", b"\x81"))


def final_lost(log: Log) -> None:
    log.drop(log.find("orders-per-minute.finals"))


def final_doubled(log: Log) -> None:
    one = log.find("shopping-sprees.finals")
    log.put(one.topic, decoded(one), one)


def cent_lost_in_a_final(log: Log) -> None:
    log.change(log.find("payments-per-five-minutes.finals"), lambda told: told["data"].update(total="0.01"))


def late_event_lost(log: Log) -> None:
    log.drop(log.find("orders-per-minute.late"))


def event_lost_in_an_open_window(log: Log) -> None:
    log.drop(next(r for r in log.records if r.topic == "windowing-shopping-sprees.changelog" and open_session(r)))


def open_session(record: Any) -> bool:
    return bool(record.key.startswith(b"sessions\0") and record.value and decoded(record)["open"])


def stock_below_nothing(log: Log) -> None:
    log.change(log.find(STOCK, of("inventory.stocked.v1", "p1")), lambda e: e["data"].update(quantity=0, available=0))


def snapshot_differs(log: Log) -> None:
    log.change(row_of(log, b"snapshots\0p0", SHELVES), lambda told: told["state"].update(available=1))


def released_without_being_reserved(log: Log) -> None:
    log.change(log.find(STOCK, of("inventory.released.v1")), lambda e: e["data"].update(order_id="x"))


def reserved_without_its_pieces(log: Log) -> None:
    reserved = log.find(ORDERS, of("order.inventory-reserved.v1", "paid"))
    created = log.find(ORDERS, of("order.created.v1", "paid"))
    items = decoded(created)["data"]["items"]
    assert decoded(reserved)["version"] == 2
    log.change(created, lambda e: e["data"]["items"].append({**items[0], "product_id": "p1", "price": "0"}))


def chain_without_timer(log: Log) -> None:
    log.change(row_of(log, b"instances\0waiting", CHAIN), lambda row: row.update(timers={}))


def chain_never_begun(log: Log) -> None:
    log.records = [r for r in log.records if r.topic != CHAIN or not (r.key or b"").endswith(b"\0paid")]


def timer_lost(log: Log) -> None:
    log.drop(next(r for r in log.records if (r.key or b"").endswith(b"payment\0waiting")))


def timer_left_behind(log: Log) -> None:
    stopped = [r for r in log.records if (r.key or b"").endswith(b"payment\0paid") and r.value is None]
    log.drop(stopped[-1])


def waiting_unlisted(log: Log) -> None:
    for row in [r for r in log.records if r.key and r.key.startswith(b"waiting\0") and r.key.endswith(b"waiting")]:
        log.drop(row)


def listed_though_finished(log: Log) -> None:
    ended = [r for r in log.records if r.key and r.key.startswith(b"waiting\0") and r.key.endswith(b"paid")]
    assert ended[-1].value is None
    log.drop(ended[-1])


def alert_lost(log: Log) -> None:
    log.drop(log.find(ALERTS, lambda a: a["data"]["filter"] == "high-value"))


def vip_alert_lost(log: Log) -> None:
    log.drop(log.find(ALERTS, lambda a: a["data"]["filter"] == "vip"))


def alert_doubled(log: Log) -> None:
    one = log.find(ALERTS)
    log.put(ALERTS, decoded(one), one)


def alert_unasked(log: Log) -> None:
    created = log.find(ORDERS, of("order.created.v1", "by-hand"))
    log.change(log.find(ALERTS), lambda a: a["data"].update(event_id=decoded(created)["id"], filter="vip"))


def parked_without_dead_letter(log: Log) -> None:
    like = log.find(ROWS)
    log.put(ROWS, 1, like, key=b"\0parked:o1")


CORRUPTIONS: list[tuple[Callable[[Log], None], set[str]]] = [
    (unreadable, {"records-readable"}),
    (version_skipped, {"versions-contiguous"}),
    (event_lost, {"versions-contiguous", "outcomes-claim-events", "orders-equal-events"}),
    (event_doubled, {"event-ids-unique"}),
    (wrong_key, {"keys-and-partitions"}),
    (moved_to_another_partition, {"keys-and-partitions"}),
    (outcome_lost, {"one-outcome-per-command"}),
    (outcome_doubled, {"one-outcome-per-command"}),
    (dead_letter_lost, {"one-outcome-per-command"}),
    (event_unclaimed, {"outcomes-claim-events"}),
    (event_claimed_twice, {"outcomes-claim-events"}),
    (claims_what_is_not_there, {"outcomes-claim-events"}),
    (rejected_with_events, {"outcomes-claim-events"}),
    (command_never_sent, {"causes-exist"}),
    (alert_without_cause, {"causes-exist"}),
    (chain_command_without_cause, {"causes-exist"}),
    (correlation_lost, {"correlations-consistent"}),
    (chain_correlates_otherwise, {"correlations-consistent"}),
    (wrong_total, {"order-totals", "days-equal-orders", "customer-orders-equal-orders", "windows-equal-events"}),
    (final_lost, {"windows-equal-events"}),
    (final_doubled, {"windows-equal-events", "finals-exactly-once"}),
    (cent_lost_in_a_final, {"windows-equal-events"}),
    (late_event_lost, {"windows-equal-events"}),
    (cent_lost_on_a_day, {"days-equal-orders"}),
    (order_not_counted_on_a_day, {"days-equal-orders"}),
    (cent_too_much_spent, {"customers-equal-orders"}),
    (customer_behind, {"customers-equal-orders"}),
    (status_wrong_in_a_list, {"customer-orders-equal-orders"}),
    (in_the_list_of_another, {"customer-orders-equal-orders"}),
    (twice_in_a_list, {"customer-orders-equal-orders"}),
    (cent_lost_in_a_row, {"orders-equal-events"}),
    (status_wrong_in_a_row, {"orders-equal-events"}),
    (row_behind, {"orders-equal-events"}),
    (row_of_an_order_that_never_was, {"orders-equal-events"}),
    (stock_below_nothing, {"stock-equals-history"}),
    (snapshot_differs, {"stock-equals-history"}),
    (released_without_being_reserved, {"stock-equals-history", "reservations-equal-orders"}),
    (reserved_without_its_pieces, {"reservations-equal-orders", "orders-equal-events"}),
    (chain_without_timer, {"chains-finished-or-timed", "timers-equal-instances"}),
    (chain_never_begun, {"chains-finished-or-timed"}),
    (timer_lost, {"timers-equal-instances"}),
    (timer_left_behind, {"timers-equal-instances"}),
    (waiting_unlisted, {"waiting-equal-instances"}),
    (listed_though_finished, {"waiting-equal-instances"}),
    (alert_lost, {"alerts-exactly-once"}),
    (vip_alert_lost, {"alerts-exactly-once"}),
    (alert_doubled, {"alerts-exactly-once"}),
    (alert_unasked, {"alerts-exactly-once"}),
    (parked_without_dead_letter, {"parked-keys-accounted"}),
]


@pytest.mark.parametrize(("corrupt", "names"), CORRUPTIONS, ids=[corrupt.__name__ for corrupt, _ in CORRUPTIONS])
def test_each_corruption_is_found_under_its_name(corrupt: Callable[[Log], None], names: set[str]) -> None:
    log = healthy()
    corrupt(log)
    audit = log.audit()
    found = {v.name: v.examples for v in audit.verdicts if v.violations}
    assert set(found) == names, found
    assert all(found.values())
    assert not audit.ok


@pytest.mark.parametrize(
    ("topic", "place"),
    [
        ("f.orders.events", Place(Kind.EVENT, "orders")),
        ("f.fleet.alerts", Place(Kind.ALERT, "fleet")),
        ("f.projecting-orders.changelog", None),
        ("f.projecting-orders.g2.changelog", Place(Kind.ROW, "projecting-orders")),
        ("f.projecting-orders-by-day.changelog", Place(Kind.ROW, "projecting-orders-by-day")),
        ("f.projecting-customers.g3.deadletters", None),
        ("f.other.orders.events", None),
        ("orders.events", None),
        ("f.orders.inbox", None),
    ],
)
def test_topics_are_known_by_their_names_and_read_models_by_the_generation_that_is_read(
    topic: str, place: Place | None
) -> None:
    assert place_of(topic, "f.", {"orders": 2}) == place


def test_rows_that_wait_for_a_parked_key_are_excused_for_it_is_told_of() -> None:
    log = healthy()
    row_behind(log)
    assert not log.audit().ok
    like = log.find(ROWS)
    log.put(ROWS, 1, like, key=b"\0parked:paid")
    letter = next(r for r in log.records if r.topic == "deciding-orders.deadletters")
    log.records.append(replace(letter, topic="projecting-orders.deadletters", key=b"paid", offset=7))
    audit = log.audit()
    assert audit.ok, [v for v in audit.verdicts if v.violations]
    assert ("projecting-orders", "undecodable") in audit.dead_letters


def test_every_invariant_is_seen_to_fail() -> None:
    named = {name for _, names in CORRUPTIONS for name in names}
    assert {found.name for checker in Auditor().checkers for found in checker.findings} == named


def test_a_customers_events_may_be_read_in_another_order_than_they_were_folded() -> None:
    """They lie in several partitions: after one event each, log and row need not speak of the same one."""
    log = healthy()
    paid, regretted = (log.find(ORDERS, of("order.created.v1", order)) for order in ("paid", "regretted"))
    row = next(r for r in log.records if r.key == b"customers\0vip")
    told = decoded(row)
    told["version"], told["row"] = 1, told["row"] | {"orders": 1, "spent": "0", "last_order_id": "paid"}
    first = replace(row, offset=-1, value=encoded(row.topic, told))
    log.records = [regretted, first, paid, *(r for r in log.records if r not in (paid, regretted))]
    found = {v.name: v.examples for v in log.audit().verdicts if v.name == "customers-equal-orders"}
    assert found == {"customers-equal-orders": ()}
