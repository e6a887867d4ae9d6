"""Continual-learning quality, one harness for our method and its peers: `python -m benchmarks.continual --help`.

Needs torch, timm, numpy, pillow and safetensors; no Redis and none of the service.
"""
