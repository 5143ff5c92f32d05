"""Which chats make up a batch, and in which order."""
