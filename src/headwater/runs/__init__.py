"""Runs of batch pipelines: imports of users and exports of profiles."""
