"""`headwater doctor`: checks of an installation. Each finding says what is wrong and what to do. Nothing is changed."""
