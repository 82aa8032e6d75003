"""The shared rim: thin clients of Redis, RQ, the spool, S3 and Label Studio. Vendor errors become ours here."""
