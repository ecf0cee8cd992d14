"""Drivers: one package for each kind of database that a warehouse can be in."""
