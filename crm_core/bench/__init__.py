"""How fast the product is, and how it compares with other tools."""
