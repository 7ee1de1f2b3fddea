"""Metrion for mitmdump, mitmweb and mitmproxy: `-s addons/metrion.py` (see the README)."""

from addons.addon import MetrionAddon

addons = [MetrionAddon()]
