"""The data-quality report: its numbers, and its page."""
