"""The history of entities: one module writes it, one reads it, and one checks what must always be true of it."""
