"""Records by the batch on a cluster: chats that are examined, and prompts that are answered shard by shard."""
