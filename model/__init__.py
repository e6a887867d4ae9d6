"""The science: a frozen vision transformer with retrieval pools, the loop over them, and the streaming head.

Start with `deliberation`, the loop, and `head`, the classifier; `classify` puts them together.

    an image        spec, backbone, bundled, preprocess, device
    the loop        budget, pools, deliberation, fusion, merging, network, losses, diagnostics
    the head        readout, moments, head, covariances, shrinkage, widths
    what it knows   left_out, calibration, usual, familiarity
    a version       checkpoint, classify, sample
    as a graph      export, onnx_blocks, standalone
"""
