"""Open data: files fetched from public addresses, and tables of vectors read into embeddings.

In: data_sources.yaml and what it names, or a table somebody has. Out: ROOT/downloads/, verified,
and rows in the order of trackid_sorted.csv. Open `sources.py` first, then `transfer.py` (one file
over an unreliable connection) and `vector_tables.py` (one table, in bounded memory).
"""
