"""A stand-in for CORTX: moto's S3 server behind the rules by which CORTX refuses, ignores or misreads what moto accepts.

python -m cortx_emulation --port 9532 --profile s3server-doc --access-key … --secret-key …
"""
