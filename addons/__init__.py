"""The proxy process: a mitmproxy addon that swaps tokens for sealed provider keys."""
