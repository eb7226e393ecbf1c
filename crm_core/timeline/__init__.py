"""The history of entities: the one way to write it, the one way to read it, and what is always true of it."""
