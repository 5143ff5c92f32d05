"""What the doctor looks for in chats, and what becomes of it."""
