"""Batches of records, answered shard by shard."""
