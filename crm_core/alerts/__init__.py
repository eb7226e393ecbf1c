"""Alerts: what went wrong, sent to a webhook or by e-mail."""
