"""The wire as its description says: a client that knows nothing of our code; and the OpenAPI document is true."""
