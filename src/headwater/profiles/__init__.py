"""Identity resolution: which identities are one person, and what is known of that person."""
