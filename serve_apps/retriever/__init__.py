"""The retriever deployment: indexes that are held, and the embedding model."""
