"""Search: the chunks that answer a question, and how well they are found."""
