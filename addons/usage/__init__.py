"""What providers say about usage, read while it passes: parsers without any input or output.

`sse` cuts an event stream into events, `documents` keeps a JSON text in bounded memory, `inflate`
undoes compression, and one module per family of APIs turns what they find into a `TokenUsage`.
"""
