"""Scripts that derive the embedded data files; popcat itself never imports them."""
