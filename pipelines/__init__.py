"""The Dagster project: assets over the core, in the order the data flows."""
