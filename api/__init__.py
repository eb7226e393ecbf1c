"""The REST application over the core. It translates requests and answers; the rules are in the core."""
