"""The local fleet: a real Kafka and real workers on this machine, from pip alone."""
