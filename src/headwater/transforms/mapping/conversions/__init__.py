"""What each type can become, and how: the documentation's conversion matrix, compiled into functions."""
