"""The documented connectors, one module for each type. `headwater.connectors.registry` has all of them by code."""
