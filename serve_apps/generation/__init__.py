"""From a checked request to the events of its completions."""
