"""What an operator does at the command line beside serving: API keys, workspaces, secrets.

The commands work on the catalog itself, with or without a running server. A running one sees what they did within a
second.
"""
