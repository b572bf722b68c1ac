"""A trained posterior, and what it takes to train one: a simulated library, features, flows."""
