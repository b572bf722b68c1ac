"""Catalogues of others: files in any format, read as a survey file says, checked first."""
