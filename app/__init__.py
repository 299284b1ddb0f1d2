"""Eventfleet: an event-sourced order-processing fleet on Apache Kafka."""
