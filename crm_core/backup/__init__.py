"""Backups: the whole database in one file, taken while others write, and restored into an empty database."""
