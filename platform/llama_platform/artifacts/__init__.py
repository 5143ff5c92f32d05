"""Immutable, versioned artifacts in a store, and the aliases that point at them."""
