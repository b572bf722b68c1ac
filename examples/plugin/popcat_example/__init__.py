"""An example of a popcat plugin: what each entry point of its pyproject.toml names is in one of these modules."""
