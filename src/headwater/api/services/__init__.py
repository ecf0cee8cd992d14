"""The servicers: one for each service. Each authenticates, decodes, calls one function of the domain, and encodes."""
