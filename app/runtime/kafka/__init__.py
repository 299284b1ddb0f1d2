"""Kafka behind the engine's ports, by aiokafka."""
