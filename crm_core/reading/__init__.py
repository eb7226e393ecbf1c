"""The one way to read: as of an instant, as known at one; lists, histories, differences, the audit and the feed."""
