"""The processes: the API alone, or everything that runs each day."""
