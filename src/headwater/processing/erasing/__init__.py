"""Erases persons from all stores, in steps that continue after a crash.

It runs in the worker, which alone writes the state store and the warehouse. The order protects what an interruption
leaves: first the person is suppressed, so that events that wait in the log have no effect; then each store is counted
and emptied; then the subject is forgotten, and files are overwritten. The note with the progress is in the state store.
"""

from headwater.processing.erasing.eraser import Eraser

__all__ = ["Eraser"]
