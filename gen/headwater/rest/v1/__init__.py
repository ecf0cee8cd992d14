"""Messages and servicers of REST calls with raw JSON, generated from protos/headwater/rest/v1."""
