"""Engines: one loaded base model that generates for many requests, each with its own adapter."""
