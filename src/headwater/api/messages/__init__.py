"""Conversions between protobuf messages and values of the domain."""
