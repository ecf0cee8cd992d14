"""Drivers: one package for each kind of database."""
