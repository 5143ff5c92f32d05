"""The first minutes on a rented GPU machine: what it is, how fast it is, and whether training works on it."""
