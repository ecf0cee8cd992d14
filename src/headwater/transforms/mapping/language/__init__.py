"""The language of mapping expressions: text to syntax tree and back. Knows no schemas and no functions."""
