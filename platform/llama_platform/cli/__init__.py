"""`llama-platform`, the operators' command line."""
