"""The auditor: reads the raw topics with a reader, decoders and rules of its own, and says which promise is broken.

It imports nothing of what it audits: an error there must not be repeated here.
"""
