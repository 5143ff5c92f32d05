"""The platform's own route to the model."""
