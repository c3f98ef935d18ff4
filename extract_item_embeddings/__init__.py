"""One file and one batch file a backbone: audio in, embeddings/NAME.npy out.

What they share is in `engine/` (audio files to a matrix), `bases/` (kinds of backbones) and
`networks/` (networks written here). Open `mfcc.py` first, the shortest that is
whole in one file; to add one, copy it.
"""
