"""All access to PostgreSQL: servers, connections, sessions, migrations, and what its errors mean."""
