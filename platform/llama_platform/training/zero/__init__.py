"""DeepSpeed: its configuration, its engine, and the state behind its ZeRO stages."""
