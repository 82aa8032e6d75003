"""What the sidecar, the workers and the ML backend must agree on.

Rule: modules directly under `bridge/` import the standard library only and do no I/O; everything that touches
Redis, a bucket or Label Studio lives in `bridge/edges/`.
"""
