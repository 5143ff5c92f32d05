"""Adapters compared on held-out chats."""
