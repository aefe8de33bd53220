"""Language models that one can ask: on this machine (local), behind an endpoint (server), by name (load)."""
