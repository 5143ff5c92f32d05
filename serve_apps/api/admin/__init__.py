"""Administration: what `llama-platform` does on the command line, over HTTP, for the administrator's token."""
