"""What every HTTP request passes: its id, bounds of its body, and the access log."""
