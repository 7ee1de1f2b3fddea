"""The way without mitmproxy: sockets of our own, for plain HTTP/1 while nobody looks at flows.

mitmproxy's own way costs a request its flow, its walk over thirty addons and several tasks, and a
stream all of its layers for every event. Here an `asyncio.Protocol` on each side hands bytes to the
same relay (`addons.relay`), which decides the same. A client that begins with TLS is handed to
mitmproxy with the bytes that it sent.
"""
