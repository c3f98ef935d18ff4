"""The report's parts: what the runs left behind, read, drawn and written as pages."""
