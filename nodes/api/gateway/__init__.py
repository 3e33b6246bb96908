"""One HTTP call to the gateway, and what its answer means.

Nothing is sent twice here, and nothing is remembered: this room knows neither the ledger nor how nodes wait.
"""
