"""A CSV file from its bytes to versions: reader, contract, registry, and `ingest`, which runs all of them."""
