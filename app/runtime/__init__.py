"""The engine: Faust's shell with a batched consumer, and exactly-once pipelines over transactional producers."""
