"""The Dagster project: assets over the core, in the order in which the data flow."""
