"""Options of fields, methods and error reasons, generated from protos/headwater/options/v1."""
