"""What a request costs, and how much the owner of this installation lets it spend.

Pure functions of a request and of what was spent before. Knows neither the network nor the ledger's file.
"""
