"""Indexing: from sources to a committed version, anew or on top of the one before."""
