"""The domain: timelines of entities and details in PostgreSQL. Knows no web and no orchestration framework."""
