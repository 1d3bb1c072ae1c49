"""The places where we attach to the SDK; the only code that knows the SDK's inside."""
