"""The delivery queue: events that wait for destinations, dead letters, and past attempts.

On SQLite it has its own file, `delivery.db`: a backlog must not bloat the other files, and the courier must not wait
for the worker's transactions. On PostgreSQL it is the schema `delivery`.
"""
