"""Messages, clients and servicers of the typed API, generated from protos/headwater/v1."""
