"""Audio to embeddings: the engine every backbone runs on, and one file a backbone."""
