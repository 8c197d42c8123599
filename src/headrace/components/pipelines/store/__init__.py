"""SQL state of pipelines: experiments, pipelines, runs, tasks, artifacts."""
