"""Utilities that every package may use: errors, clock, identifiers, encryption, metrics. Imports no other package of
the project."""
