"""`python -m sidecar doctor`: looks at everything we stand on, and says what to do about what is wrong.

One module an area; each asks first and judges in a plain function. Nothing is changed but what is written below
`{BUCKET_PREFIX}/doctor/` and removed again.
"""
