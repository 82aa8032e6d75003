"""The door: hears Label Studio's webhooks, and serves operators: API, command line. Never talks to the bucket while Label Studio waits."""
