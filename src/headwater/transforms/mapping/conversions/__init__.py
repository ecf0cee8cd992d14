"""The documentation's conversion matrix, compiled into functions between types."""
