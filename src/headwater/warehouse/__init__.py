"""Warehouses: the data that people query, in a database that a driver speaks to."""
