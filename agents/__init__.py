"""The arrows of the fleet: from topics, by a pure shape, into tables and further topics."""
