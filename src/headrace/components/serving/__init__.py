"""Model serving: KServe's InferenceService in Standard (raw deployment) mode."""
