"""A posterior catalogue on disk: its parts and manifest, questions to it, verification, export."""
