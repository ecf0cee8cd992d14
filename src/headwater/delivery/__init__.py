"""Sends events to destinations."""
