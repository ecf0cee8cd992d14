"""The command line: the table of commands, a client of the API, tables for people and JSON for programs.

`headwater serve` runs the server. Most commands call the API of a running server. Some work on the database directly,
so that an installation can be set up and repaired without a running server. docs/commands.md is the page for users.
"""
