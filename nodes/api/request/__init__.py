"""What may be sent: the fields of a request, their limits, the rules between them, and how a problem is worded.

Everything here is a pure function of a body and knows neither the network nor the ledger.
"""
