"""The repository's own training recipe on its own procedural worlds."""
