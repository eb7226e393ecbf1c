"""The domain: timelines of entities and details in PostgreSQL. It knows no web or orchestration framework."""
