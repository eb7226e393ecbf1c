"""The REST application over the core: what it says and how, never what is true."""
