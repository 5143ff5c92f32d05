"""OpenAI's API: routes, their schemas, and log-probabilities."""
