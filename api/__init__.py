"""The REST application over the core."""
