"""The language of mapping expressions: text to syntax tree and back, independent of schemas and functions."""
