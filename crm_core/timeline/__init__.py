"""The one way to write versions: merge, a single change, undo; and the checks of what must always be true of them."""
