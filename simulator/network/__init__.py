"""The network between nodes: rounds of messages over a graph schedule, collectives for metrics, and the byte ledger."""
