"""The deployment behind the HTTP proxy."""
