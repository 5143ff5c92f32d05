"""Health and what is served."""
