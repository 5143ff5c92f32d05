"""Base models, prompts and adapters: what is trained and served."""
