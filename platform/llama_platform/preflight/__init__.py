"""Preflight: what would fail on a cluster, found before anything is started."""
