"""What the rows of a drop say: the columns of the standard form, their contract, and how a file becomes such rows."""
