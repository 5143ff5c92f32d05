"""The demo: every stage of the platform on this machine, one after another."""
