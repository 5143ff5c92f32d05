"""The loss on answers, and attention and dropout over packed rows."""
