"""Values, and when two of them are equal: text, instants, hashes."""
