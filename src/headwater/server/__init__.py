"""Runs the system: settings, the command line, the supervisor with Envoy, and the wiring of backend and worker."""
