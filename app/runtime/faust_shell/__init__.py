"""The engine inside Faust: a consumer that hands over whole batches, and an assignor that moves whole buckets."""
