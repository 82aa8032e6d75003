"""The proof by faults: annotators at work on a real Label Studio while our parts are killed; then an account of it all.

`make chaos [SEED=…]`. The account is kept by the oracle (ledger.py, oracle.py), which knows our programs only by their
command line.
"""
