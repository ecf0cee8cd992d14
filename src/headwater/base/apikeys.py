"""Rules for API keys that operators choose. Imports nothing, because the supervisor uses it."""

PREFIX = "api_"
MIN_LENGTH = 40
"""Minimum characters of a key. The key is stored as one SHA-256 hash, so it must not be guessable."""
MIN_DIFFERENT_CHARACTERS = 12
"""Minimum different characters after the prefix. A random key of this length in hexadecimal or base 64 has more."""


def check(key: str) -> None:
    """Raise ValueError, with the rule and without the key, when an API key breaks a rule."""
    if not key.startswith(PREFIX) or len(key) < MIN_LENGTH:
        raise ValueError(f'must start with "{PREFIX}" and have at least {MIN_LENGTH} characters')
    if not all("!" <= character <= "~" for character in key):
        raise ValueError("must consist of visible ASCII characters: it travels in a header")
    if len(set(key.removeprefix(PREFIX))) < MIN_DIFFERENT_CHARACTERS:
        raise ValueError(
            f"must have at least {MIN_DIFFERENT_CHARACTERS} different characters after {PREFIX}: make a random "
            f'key, for example with: echo "{PREFIX}$(openssl rand -base64 32)"'
        )
