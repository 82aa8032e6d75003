"""Every error we raise, by whose fault it is; the message says what to do about it.

- `SenderError`: whoever called us sent something wrong. Answered with its `status`, never retried.
- `OutsideError`: a store, Redis or Label Studio did not do what we need. `retryable` says whether waiting helps.
- `SettingsError`: the operator's settings are wrong; every bad value is named in one message.
Anything else that escapes is a bug of ours and crashes loudly.
"""


class BridgeError(Exception):
    """Base of all our errors."""

    status = 500
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)


class SettingsError(BridgeError):
    """One or more settings are missing or wrong; the message lists each with its name, value and what is allowed."""


class SenderError(BridgeError):
    """The request is wrong in itself; sending it again cannot help."""

    status = 400


class Unauthorized(SenderError):
    """The secret, token or password is missing or wrong."""

    status = 401


class TooLarge(SenderError):
    """The body is larger than the receiver accepts."""

    status = 413


class OutsideError(BridgeError):
    """Something outside this process failed; most of these pass if one waits."""

    status = 502
    retryable = True


class NotFound(OutsideError):
    """The object, bucket, project or file does not exist there."""

    status = 404
    retryable = False


class Refused(OutsideError):
    """The other side understood us and said no: key, token, clock, permission or a value it does not accept."""

    status = 502
    retryable = False


class Unavailable(OutsideError):
    """The other side is down, busy or timed out; the same call may succeed later."""

    status = 503


class Busy(Unavailable):
    """The store asks us to come less often."""


class Full(Unavailable):
    """The store has no room, or the quota is used up; waiting helps only once somebody makes room."""


class Broken(Unavailable):
    """The store itself failed; whether it did what was asked is unknown."""


class Corrupt(OutsideError):
    """What was read back is not what was written: wrong size or checksum."""

    retryable = False


class FileChanged(Corrupt):
    """A local file changed while it was sent; sending it again helps."""
