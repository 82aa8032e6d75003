"""RQ jobs: one file per job. They carry from the streams to the bucket, and from Label Studio into the record."""
