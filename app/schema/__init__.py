"""What messages and topics are like, for other programs: JSON Schema and AsyncAPI, made of the catalogue."""
