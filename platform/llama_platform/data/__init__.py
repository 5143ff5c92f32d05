"""Chats: reading, checking, splitting and tokenizing them."""
