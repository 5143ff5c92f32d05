"""The deployment that generates."""
