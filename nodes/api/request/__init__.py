"""What may be sent: the body, its limits, the rules between its fields, and how a broken rule is worded.

Pure functions of a body. Knows neither the network nor the ledger.
"""
