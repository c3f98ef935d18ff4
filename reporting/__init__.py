"""What the runs left behind, read, drawn and written as pages.

In: tables/, runs/, embeddings/. Out: report/. Open `study.py` first (what is read), then
`pages.py` (what is written).
"""
