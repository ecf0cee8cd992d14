"""What a connector is, and the catalogue of those that this installation can make connections with."""
