"""Entry points. Start one with `python -m jobs.NAME`, here or through `ray job submit`."""
