"""How to read the files of a source: profiles, written in TOML, reviewed and versioned like code."""
