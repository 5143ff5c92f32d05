"""Questions that are answered from documents."""
