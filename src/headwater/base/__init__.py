"""What every room may use: errors, the clock, identifiers, database engines. Imports nothing of ours."""
