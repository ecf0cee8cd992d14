"""Connectors: the systems that data comes from or goes to.

| module | content |
| --- | --- |
| `connector.py` | the description of a connector: type, roles, settings, engine |
| `settings.py` | settings as typed declarations: validation, forms, secrets |
| `registry.py` | all connectors by code |
| `catalogue/` | the documented connectors, one module for each type |
| `contract/` | the capabilities that an engine implements, one protocol each, and their types |
| `responses.py` | reads responses by declared rules |
| `http.py` | the HTTP client that connectors use; the only module that imports aiohttp |
| `addresses.py` | the addresses that it may connect to |
| `redaction.py` | removes secrets from texts, and formats requests for previews |
| `environment.py` | makes the context of an engine |
| `dummy/` | one package for each connector with an engine; dummy is the reference |

`docs/connectors.md` shows how to write one.
"""
