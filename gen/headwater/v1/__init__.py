"""Messages, clients and servicers of the Headwater API, generated from protos/headwater/v1."""
