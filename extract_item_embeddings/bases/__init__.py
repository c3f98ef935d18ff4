"""What kinds of backbones share: a device, weights of a hub, layers and pooling, checkpoints.

In: a backbone's facts and options. Out: its loaded network and its vectors. Open
`torch_backbone.py` first, then `pretrained.py`.
"""
